#!/usr/bin/env python3
"""Prints which crates are compiled into the program, under which licences, with their notices.

packaging/crates.py [TARGET]: the licences ask for this text to travel with the program. Reads what
`cargo metadata` knows, and the files of the crates themselves.
"""

import json
import pathlib
import re
import subprocess
import sys


def cargo(*arguments):
    return subprocess.run(["cargo", *arguments], check=True, capture_output=True, text=True).stdout


def main():
    host = re.search(r"^host: (.*)$", cargo("-vV"), re.M).group(1)
    target = sys.argv[1] if len(sys.argv) > 1 else host
    tree = cargo("tree", "--locked", "--edges=normal", f"--target={target}", "--prefix=none", "--format={p}")
    used = {tuple(line.split()[:2]) for line in tree.splitlines() if line}
    metadata = json.loads(cargo("metadata", "--locked", "--format-version=1", f"--filter-platform={target}"))
    notices = {}
    print(f"Crates compiled into codex-api-proxy for {target}:\n")
    for crate in sorted(metadata["packages"], key=lambda crate: (crate["name"], crate["version"])):
        if (crate["name"], "v" + crate["version"]) not in used or crate["source"] is None:
            continue
        name = f"{crate['name']} {crate['version']}"
        if not crate["license"]:
            sys.exit(f"{name} names no licence")
        print(f"{name}: {crate['license']}")
        folder = pathlib.Path(crate["manifest_path"]).parent
        for file in sorted(folder.iterdir()):
            # Of several licences to choose from, MIT is ours; Apache's own text names nobody.
            if re.match(r"(LICEN[CS]E|COPYING|NOTICE)", file.name, re.I) and file.is_file():
                if "apache" in file.name.lower() and "MIT" in crate["license"]:
                    continue
                text = "\n".join(line.rstrip() for line in file.read_text("utf-8", "replace").splitlines()).strip()
                notices.setdefault(text, []).append(name)
    for text, names in notices.items():
        print(f"\n{'-' * 72}\n{', '.join(names)}:\n\n{text}")


main()
