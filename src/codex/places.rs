//! The lowest free number in a folder, for names that shall be the same again once they are free: who
//! tried them one after the other would try as many as turns are at work.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// Numbers of one folder.
#[derive(Debug, Default)]
struct Numbers {
    free: BinaryHeap<Reverse<u32>>,
    next: u32,
}

static ALL: Mutex<BTreeMap<PathBuf, Numbers>> = Mutex::new(BTreeMap::new());

/// A number of this process alone, given back when dropped.
#[derive(Debug)]
pub struct Place {
    folder: PathBuf,
    number: u32,
}

impl Place {
    /// The lowest free one.
    pub fn take(folder: &Path) -> Place {
        let mut all = ALL.lock().unwrap_or_else(PoisonError::into_inner);
        let numbers = all.entry(folder.to_path_buf()).or_default();
        let number = match numbers.free.pop() {
            Some(Reverse(number)) => number,
            None => {
                numbers.next += 1;
                numbers.next - 1
            }
        };
        Place { folder: folder.to_path_buf(), number }
    }

    /// It.
    pub fn number(&self) -> u32 {
        self.number
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut all = ALL.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(numbers) = all.get_mut(&self.folder) {
            numbers.free.push(Reverse(self.number));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_free_number_is_given_next() {
        let folder = Path::new("places/test");
        let take = || Place::take(folder);
        let (zero, one, two) = (take(), take(), take());
        assert_eq!([zero.number(), one.number(), two.number()], [0, 1, 2]);
        drop((two, zero));
        let (again, after) = (take(), take());
        assert_eq!([again.number(), after.number(), take().number()], [0, 2, 3]);
        assert_eq!(Place::take(Path::new("places/other")).number(), 0);
    }
}
