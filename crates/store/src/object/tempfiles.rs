//! Files that were to become objects of a folder: a gateway that was killed while it wrote leaves them.
//!
//! `object_store` writes to `NAME#NUMBER`, then links that to the name. Such a file is no object, and nothing lists or
//! reads it.

use std::ffi::OsStr;
use std::fs::{self, Metadata};
use std::io::{self, ErrorKind};
use std::path::Path;
use std::time::{Duration, SystemTime};

/// A file younger than this is being written, whatever grace a sweep is given: it takes seconds, also on a slow disk. A
/// write that lasts longer fails and acknowledges nothing.
const WRITE_MAX: Duration = Duration::from_secs(600);

/// Removes those that nobody writes any more. Returns how many there were, and their bytes.
pub fn remove_left(folder: &Path, grace: Duration) -> io::Result<(u64, u64)> {
    let (mut files, mut bytes) = (0, 0);
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in there(fs::read_dir(&folder))?.into_iter().flatten() {
            let entry = entry?;
            let Some(about) = there(entry.metadata())? else { continue };
            if about.is_dir() {
                folders.push(entry.path());
            } else if is_staging(&entry.file_name()) && is_older_than(&about, grace.max(WRITE_MAX))? {
                there(fs::remove_file(entry.path()))?;
                (files, bytes) = (files + 1, bytes + about.len());
            }
        }
    }
    Ok((files, bytes))
}

/// Whether the name is that of an object and `#` and a number.
fn is_staging(name: &OsStr) -> bool {
    let number = name.to_str().and_then(|name| name.split_once('#')).map(|(_, number)| number);
    number.is_some_and(|number| !number.is_empty() && number.bytes().all(|digit| digit.is_ascii_digit()))
}

/// Whether it was written to so long ago. Not where a clock was set back.
fn is_older_than(about: &Metadata, age: Duration) -> io::Result<bool> {
    let since = SystemTime::now().duration_since(about.modified()?);
    Ok(since.is_ok_and(|since| since >= age))
}

/// What is gone is `None`: others sweep and write, too.
fn there<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn write(path: PathBuf, age: Duration) -> PathBuf {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let file = fs::File::create(&path).unwrap();
        file.set_modified(SystemTime::now() - age).unwrap();
        path
    }

    #[test]
    fn only_what_nobody_writes_any_more_goes() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join("latents/ab").join(name);
        let hour = Duration::from_secs(3600);
        let left = [write(at("object#1"), hour), write(at("object#12"), hour)];
        let stay = [
            write(at("object"), hour),
            write(at("object#"), hour),
            write(at("object#1x"), hour),
            write(at("other#1"), Duration::from_secs(60)),
        ];
        assert_eq!(remove_left(folder.path(), hour * 2).unwrap(), (0, 0));
        assert_eq!(remove_left(folder.path(), Duration::ZERO).unwrap(), (2, 0));
        assert!(left.iter().all(|path| !path.exists()) && stay.iter().all(|path| path.exists()));
        assert_eq!(remove_left(&at("no folder"), Duration::ZERO).unwrap(), (0, 0));
    }
}
