//! Runs fuzz targets: functions that decode bytes from outside and must neither panic, nor hang, nor allocate more than
//! the bytes justify.
//!
//! A target is a `#[test]` function that calls [`check!`]. `cargo test` executes it for at most a second: first on its
//! seeds and its corpus, unchanged, then on mutations of these. `just fuzz` runs it under libFuzzer, which looks for
//! inputs that reach new code.
//!
//! Seeds are valid inputs that the test itself encodes. The corpus of a target consists of the files in the folder
//! `fuzz/TARGET` of its crate. An input that fails is saved there, to be committed with the fix.

mod mutation;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use std::{fs, thread};

pub use bolero;

pub use self::mutation::Mutations;

/// Maximum duration of one execution. Generous, because tests run unoptimised and in parallel.
const EXECUTION_MAX: Duration = Duration::from_secs(5);

/// Maximum memory that an execution may hold at once: `constant` bytes and `factor` bytes for each byte of input.
#[derive(Clone, Copy, Debug)]
pub struct MemoryBound {
    /// Bytes for each byte of the input.
    pub factor: u64,
    /// Bytes independent of the input.
    pub constant: u64,
}

impl Default for MemoryBound {
    /// Enough for decoders that copy their input into structs of small fields.
    fn default() -> Self {
        Self { factor: 64, constant: 64 << 10 }
    }
}

/// A fuzz target. Counts executions, and prints their number when it is dropped.
#[derive(Debug)]
pub struct Target {
    name: &'static str,
    folder: PathBuf,
    seeds: Vec<Vec<u8>>,
    bound: MemoryBound,
    executions: AtomicU64,
    memory_max: AtomicU64,
}

impl Target {
    /// Returns the target `name` of the crate in the folder `package`. Adds the corpus to the seeds.
    ///
    /// # Panics
    ///
    /// Panics if a file of the corpus is not readable.
    pub fn new(package: &str, name: &'static str, bound: MemoryBound, mut seeds: Vec<Vec<u8>>) -> Self {
        let folder = Path::new(package).join("fuzz").join(name);
        let files = fs::read_dir(&folder).into_iter().flatten().flatten();
        let mut files: Vec<_> = files.map(|file| file.path()).collect();
        files.sort();
        seeds.extend(files.iter().map(|file| fs::read(file).expect("files of a corpus are readable")));
        Self { name, folder, seeds, bound, executions: AtomicU64::new(0), memory_max: AtomicU64::new(0) }
    }

    /// Returns the seeds and the corpus.
    pub fn seeds(&self) -> &[Vec<u8>] {
        &self.seeds
    }

    /// Writes the seeds to the folder that the environment variable `C3_FUZZ_CORPUS` names, for libFuzzer to read.
    pub fn export_seeds(&self) {
        let Some(folder) = std::env::var_os("C3_FUZZ_CORPUS").map(PathBuf::from) else { return };
        for seed in &self.seeds {
            // Fuzzing works without seeds too, so an error is ignored.
            let _ = fs::write(folder.join(name_of(seed)), seed);
        }
    }

    /// Executes `decode` on an input.
    ///
    /// # Panics
    ///
    /// Panics if `decode` panics, takes longer than five seconds, or exceeds the memory bound. Saves the input first.
    pub fn run(&self, input: &[u8], decode: impl FnOnce(&[u8])) {
        let _save = SaveOnPanic { folder: &self.folder, input };
        let begun = Instant::now();
        let memory = allocation_counter::measure(|| decode(input)).bytes_max;
        let duration = begun.elapsed();
        self.executions.fetch_add(1, Ordering::Relaxed);
        self.memory_max.fetch_max(memory, Ordering::Relaxed);
        let max = self.bound.constant + self.bound.factor * input.len() as u64;
        assert!(memory <= max, "{} bytes of input took {memory} bytes of memory; {max} are allowed", input.len());
        assert!(duration <= EXECUTION_MAX, "{} bytes of input took {duration:?}", input.len());
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        if !thread::panicking() {
            let (executions, memory) = (self.executions.get_mut(), self.memory_max.get_mut());
            println!("fuzz target {}: {executions} executions, {memory} bytes of memory at most", self.name);
        }
    }
}

/// Saves the input of an execution that panics.
struct SaveOnPanic<'a> {
    folder: &'a Path,
    input: &'a [u8],
}

impl Drop for SaveOnPanic<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            let file = self.folder.join(format!("failed-{}", name_of(self.input)));
            let saved = fs::create_dir_all(self.folder).and_then(|()| fs::write(&file, self.input));
            match saved {
                Ok(()) => eprintln!("saved the input as {}: commit it with the fix", file.display()),
                Err(error) => eprintln!("cannot save the input as {}: {error}", file.display()),
            }
        }
    }
}

/// Returns the name of the file for an input.
fn name_of(input: &[u8]) -> String {
    blake3::hash(input).to_hex()[..16].to_owned()
}

/// Runs a fuzz target inside a `#[test]` function: `check!("name", bound, seeds, |input| …)`.
///
/// `bound` is a [`MemoryBound`], `seeds` a `Vec<Vec<u8>>` of valid inputs, and the closure decodes a `&[u8]`.
///
/// # Panics
///
/// Panics if an execution panics, hangs or exceeds the bound.
#[macro_export]
macro_rules! check {
    ($name:literal, $bound:expr, $seeds:expr, $decode:expr) => {{
        let target = $crate::Target::new(env!("CARGO_MANIFEST_DIR"), $name, $bound, $seeds);
        let decode: fn(&[u8]) = $decode;
        #[cfg(fuzzing)]
        {
            target.export_seeds();
            $crate::bolero::check!().for_each(|input: &[u8]| target.run(input, decode));
        }
        #[cfg(not(fuzzing))]
        {
            for seed in target.seeds() {
                target.run(seed, decode);
            }
            let mutations = $crate::Mutations::of(target.seeds());
            $crate::bolero::check!().with_generator(mutations).for_each(|input: &Vec<u8>| target.run(input, decode));
        }
    }};
}

#[cfg(test)]
mod tests {
    use std::hint::black_box;
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;

    #[test]
    fn a_target_that_decodes_within_its_bound_passes() {
        check!("none", MemoryBound::default(), vec![b"seed".to_vec()], |input| {
            black_box(input.to_vec());
        });
    }

    #[test]
    fn an_input_that_panics_or_takes_too_much_memory_is_saved() {
        let package = tempfile::tempdir().unwrap();
        let path = package.path().to_str().unwrap();
        let bound = MemoryBound { factor: 2, constant: 100 };
        let target = Target::new(path, "copies", bound, Vec::new());
        target.run(&[0; 200], |input| drop(black_box(input.to_vec())));
        let fails = |decode: fn(&[u8])| catch_unwind(AssertUnwindSafe(|| target.run(&[1; 10], decode))).is_err();
        assert!(fails(|input| drop(black_box(input.repeat(20)))));
        let saved = Target::new(path, "copies", bound, Vec::new());
        assert_eq!(saved.seeds(), [[1; 10]]);
        assert!(fails(|input| assert_eq!(input[0], 0)));
    }
}
