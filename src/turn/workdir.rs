//! Working directories a client may ask for: inside an allowed root, after resolving links.

use std::path::{Path, PathBuf};

use super::Failure;

/// A directory that lies inside an allowed root. Nothing else makes one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Workdir(PathBuf);

impl Workdir {
    /// Checks `asked` (or `default` if the client did not ask) against `roots`.
    ///
    /// Blocking: resolves links on disk. Call it off the runtime.
    ///
    /// # Errors
    /// [`Failure::BadRequest`] on `metadata.cwd` for what the client asked;
    /// [`Failure::Internal`] if the configured default itself is unusable.
    pub fn resolve(asked: Option<&str>, default: &Path, roots: &[PathBuf]) -> Result<Workdir, Failure> {
        let Some(asked) = asked else {
            return default.canonicalize().map(Workdir).map_err(|error| Failure::Internal {
                detail: format!("default_cwd {}: {error}", default.display()),
            });
        };
        let bad = |why: &str| Failure::bad("metadata.cwd", format!("metadata.cwd {why}."));
        if asked.is_empty() {
            return Err(bad("must not be empty"));
        }
        if asked.contains('\0') {
            return Err(bad("must not contain a NUL character"));
        }
        let path = match asked.strip_prefix('~') {
            _ if Path::new(asked).is_absolute() => PathBuf::from(asked),
            // A relative path is taken from the default directory, the only place the client knows.
            None => default.join(asked),
            Some(_) => {
                return Err(bad("must be an absolute path, or relative to the default working directory"));
            }
        };
        // One message for "outside" and "not there outside", so that nobody can probe the disk.
        let outside = || bad("must be an existing directory inside an allowed root (setting allowed_roots)");
        let real = path.canonicalize().map_err(|_| outside())?;
        // Roots are resolved at each request: they may be links, and may change under us.
        let inside =
            roots.iter().filter_map(|root| root.canonicalize().ok()).any(|root| real.starts_with(root));
        if inside && real.is_dir() { Ok(Workdir(real)) } else { Err(outside()) }
    }

    /// The configured default as it stands, for a turn that never looks at its directory. Free of any
    /// look at the disk; that it lies inside the roots is a rule of the settings.
    pub fn unseen(default: &Path) -> Workdir {
        Workdir(default.to_path_buf())
    }

    /// The directory: absolute, and free of links unless it is [`Workdir::unseen`].
    pub fn path(&self) -> &Path {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_directories_inside_a_root_pass() {
        let base = tempfile::tempdir().unwrap();
        let base = base.path().canonicalize().unwrap();
        let root = base.join("work");
        for dir in ["work/sub", "work-sibling", "elsewhere"] {
            std::fs::create_dir_all(base.join(dir)).unwrap();
        }
        std::fs::write(root.join("file"), "").unwrap();
        std::os::unix::fs::symlink(base.join("elsewhere"), root.join("out")).unwrap();
        std::os::unix::fs::symlink(root.join("sub"), base.join("elsewhere/in")).unwrap();
        let roots = [root.clone()];
        let ask = |asked: &str| Workdir::resolve(Some(asked), &root, &roots).map(|dir| dir.0);

        let text = |path: &Path| path.to_str().unwrap().to_owned();
        assert_eq!(ask(&text(&root)), Ok(root.clone()));
        assert_eq!(ask(&text(&root.join("sub"))), Ok(root.join("sub")));
        assert_eq!(ask("sub"), Ok(root.join("sub")));
        assert_eq!(ask(&text(&base.join("elsewhere/in"))), Ok(root.join("sub")));
        assert_eq!(Workdir::resolve(None, &root, &roots).map(|dir| dir.0), Ok(root.clone()));
        for asked in [
            text(&root.join("sub/../..")),
            text(&base.join("work-sibling")),
            text(&root.join("out")),
            text(&root.join("file")),
            text(&root.join("missing")),
            "../elsewhere".into(),
            "/".into(),
            "~".into(),
            "~root".into(),
            "".into(),
            "a\0b".into(),
        ] {
            assert!(
                matches!(ask(&asked), Err(Failure::BadRequest { param: Some(param), .. }) if param == "metadata.cwd"),
                "{asked:?}"
            );
        }
    }
}
