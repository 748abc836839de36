# nix-build packaging/nix; or in a flake: pkgs.callPackage ./packaging/nix { }
# A user service on NixOS or with home-manager: systemd.packages = [ codex-api-proxy ];
{ pkgs ? import <nixpkgs> { }, lib ? pkgs.lib, rustPlatform ? pkgs.rustPlatform, python3 ? pkgs.python3 }:

let
  manifest = (lib.importTOML ../../Cargo.toml).package;
in
rustPlatform.buildRustPackage {
  pname = manifest.name;
  inherit (manifest) version;

  src = lib.cleanSource ../..;
  cargoLock.lockFile = ../../Cargo.lock;

  nativeBuildInputs = [ python3 ];

  # Its tests boot a systemd and ask npm for the Codex CLI.
  doCheck = false;

  installPhase = ''
    runHook preInstall
    bin=target/${pkgs.stdenv.hostPlatform.rust.rustcTarget}/release
    patchShebangs packaging
    packaging/crates.py > crates.txt
    # The settings of the machine are not the package's: /etc is only read.
    PREFIX=$out SYSCONFDIR=$out/etc BIN=$bin/${manifest.name} DESTDIR= packaging/install.sh
    runHook postInstall
  '';

  meta = {
    inherit (manifest) description;
    license = lib.licenses.mit;
    mainProgram = manifest.name;
    platforms = lib.platforms.unix;
  };
}
