//! The files one turn needs beside its prompt: the answer's schema and the images, 0600, removed
//! with the turn.

use std::io::{ErrorKind, Read};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use base64::engine::general_purpose::STANDARD;
use base64::read::DecoderReader;

use crate::codex::folders;
use crate::codex::places::Place;
use crate::turn::failure::Folder;
use crate::turn::{Failure, Image};

/// A folder of one turn. Dropping it removes it.
#[derive(Debug)]
pub(super) struct TurnFiles {
    folder: PathBuf,
    _place: Place,
    /// The schema's file.
    pub(super) schema: Option<PathBuf>,
    /// The images' files.
    pub(super) images: Vec<PathBuf>,
}

/// More than can be at work at once, by far.
const MOST: u32 = 1 << 16;

impl TurnFiles {
    /// Writes what the turn needs below `tmp`; `None` if it needs nothing. Blocking.
    ///
    /// # Errors
    /// [`Failure::StateNotWritable`] when the disk does not take it.
    pub(super) fn write<'a>(
        tmp: &Path,
        schema: Option<&str>,
        images: impl Iterator<Item = &'a Image>,
    ) -> Result<Option<TurnFiles>, Failure> {
        let mut images = images.enumerate().peekable();
        if schema.is_none() && images.peek().is_none() {
            return Ok(None);
        }
        let (folder, place) =
            make_folder(tmp).map_err(|error| folders::not_writable(Folder::State, tmp, &error))?;
        let failed = |error: std::io::Error| folders::not_writable(Folder::State, &folder, &error);
        let mut files = TurnFiles { folder: folder.clone(), _place: place, schema: None, images: Vec::new() };
        if let Some(schema) = schema {
            files.schema = Some(put(&folder, "schema.json", schema.as_bytes()).map_err(failed)?);
        }
        for (index, image) in images {
            let kind = image.media_type.strip_prefix("image/").unwrap_or("png");
            let name = format!("{index}.{kind}");
            let bytes = DecoderReader::new(image.base64.as_bytes(), &STANDARD);
            files.images.push(put(&folder, &name, bytes).map_err(|error| match error.kind() {
                // Checked when the request was read; an image that does not decode has no bytes.
                ErrorKind::InvalidData => {
                    Failure::Internal { detail: format!("an image that was checked: {error}") }
                }
                _ => failed(error),
            })?);
        }
        Ok(Some(files))
    }
}

/// The first that is free: Codex tells the model where a picture lies, and what it tells should be the
/// same at the next turn of a conversation, for the upstream's cache goes by it.
fn make_folder(tmp: &Path) -> std::io::Result<(PathBuf, Place)> {
    let mut private = std::fs::DirBuilder::new();
    private.mode(0o700);
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(tmp)?;
    // What could not be removed stays in its place.
    let mut stuck = Vec::new();
    loop {
        let place = Place::take(tmp);
        let folder = tmp.join(format!("turn-{}-{}", std::process::id(), place.number()));
        match private.create(&folder) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists && place.number() < MOST => {
                stuck.push(place)
            }
            made => return made.map(|()| (folder, place)),
        }
    }
}

fn put(folder: &Path, name: &str, mut bytes: impl Read) -> std::io::Result<PathBuf> {
    let path = folder.join(name);
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
    // In portions: nobody needs a whole image twice.
    std::io::copy(&mut bytes, &mut file)?;
    Ok(path)
}

impl Drop for TurnFiles {
    fn drop(&mut self) {
        // A few small files; what a crash leaves behind is swept at the next start.
        if let Err(error) = std::fs::remove_dir_all(&self.folder) {
            tracing::warn!(folder = %self.folder.display(), %error, "cannot remove a turn's files");
        }
    }
}

/// Removes what turns of a process that died left behind. Blocking.
pub(super) fn sweep(tmp: &Path) {
    for entry in std::fs::read_dir(tmp).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let owner =
            name.to_str().and_then(|name| name.strip_prefix("turn-")?.split('-').next()?.parse::<u32>().ok());
        let Some(owner) = owner else { continue };
        let alive = Path::new("/proc").join(owner.to_string()).exists() || owner == std::process::id();
        if !alive && let Err(error) = std::fs::remove_dir_all(entry.path()) {
            tracing::warn!(folder = %entry.path().display(), %error, "cannot remove a dead turn's files");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn files_are_private_and_gone_with_the_turn() {
        let tmp = tempfile::tempdir().unwrap();
        assert!(TurnFiles::write(tmp.path(), None, [].iter()).unwrap().is_none());
        let image = Image { media_type: "image/jpeg".into(), base64: "aGk=".into() };
        let files = TurnFiles::write(tmp.path(), Some("{}"), [image].iter()).unwrap().unwrap();
        let (schema, picture) = (files.schema.clone().unwrap(), files.images[0].clone());
        assert_eq!(std::fs::read(&schema).unwrap(), b"{}");
        assert_eq!(std::fs::read(&picture).unwrap(), b"hi");
        assert!(picture.to_str().unwrap().ends_with("0.jpeg"));
        assert_eq!(schema.metadata().unwrap().mode() & 0o777, 0o600);
        assert_eq!(schema.parent().unwrap().metadata().unwrap().mode() & 0o777, 0o700);
        drop(files);
        assert_eq!(std::fs::read_dir(tmp.path()).unwrap().count(), 0);
    }

    #[test]
    fn the_next_turn_finds_its_files_where_those_of_the_last_were() {
        let tmp = tempfile::tempdir().unwrap();
        let write = || TurnFiles::write(tmp.path(), Some("{}"), [].iter()).unwrap().unwrap();
        let (first, second) = (write(), write());
        assert_ne!(first.folder, second.folder);
        let place = first.folder.clone();
        drop(first);
        assert_eq!(write().folder, place);
    }

    #[test]
    fn only_the_dead_are_swept() {
        let tmp = tempfile::tempdir().unwrap();
        let own = format!("turn-{}-7", std::process::id());
        for name in ["turn-4294967295-0", own.as_str(), "probe", "turn-x"] {
            std::fs::create_dir(tmp.path().join(name)).unwrap();
        }
        sweep(tmp.path());
        let mut left: Vec<_> =
            std::fs::read_dir(tmp.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        left.sort();
        let mut expect: Vec<std::ffi::OsString> = vec![own.into(), "probe".into(), "turn-x".into()];
        expect.sort();
        assert_eq!(left, expect);
    }
}
