//! llama.cpp on the GGUF files of the default model, in a Python process.

use std::io::{BufRead, BufReader, Lines, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::harness::fixtures;

/// Python package with the release of llama.cpp that is measured.
const PACKAGE: &str = "llama-cpp-python==0.3.36";
/// Physical batch sizes that are tried.
const UBATCHES: [usize; 3] = [128, 256, 512];
/// Flash attention and repacked weights, which are tried in all combinations.
const SWITCHES: [(bool, bool); 4] = [(false, true), (true, true), (false, false), (true, false)];
/// Number of prefills in each trial of settings.
const TRIAL_TIMES: usize = 3;

/// llama.cpp with a model and with the settings that are fastest for it.
#[derive(Debug)]
pub struct Llama {
    worker: Worker,
    /// Settings that were fastest.
    pub settings: Value,
}

impl Llama {
    /// Opens a model with the settings that prefill `tokens` tokens fastest.
    pub fn with_best_settings(model: &Path, tokens: usize) -> Result<Self> {
        let mut worker = Worker::start()?;
        let threads = std::thread::available_parallelism()?.get();
        let mut best: Option<(f64, Value)> = None;
        for (ubatch, (flash, repack)) in UBATCHES.into_iter().flat_map(|ubatch| SWITCHES.map(|both| (ubatch, both))) {
            let settings = json!({
                "do": "open", "model": model, "ubatch": ubatch, "flash": flash, "repack": repack, "threads": threads
            });
            let mut trial = || {
                worker.ask(&settings)?;
                seconds(&worker.ask(&json!({"do": "prefill", "tokens": tokens, "times": TRIAL_TIMES}))?)
            };
            match trial() {
                Ok(seconds) if best.as_ref().is_some_and(|(least, _)| seconds >= *least) => {}
                Ok(seconds) => best = Some((seconds, settings)),
                // llama.cpp's AMX kernels crash on virtual machines that do not save the AMX registers.
                Err(_) => worker = Worker::start()?,
            }
        }
        let (_, settings) = best.context("no settings were tried")?;
        worker.ask(&settings)?;
        Ok(Self { worker, settings })
    }

    /// Prefills `times` prompts of `tokens` tokens. Returns tokens per second.
    pub fn prefill(&mut self, tokens: usize, times: usize) -> Result<f64> {
        let answer = self.worker.ask(&json!({"do": "prefill", "tokens": tokens, "times": times}))?;
        Ok((tokens * times) as f64 / seconds(&answer)?)
    }

    /// Generates `tokens` tokens after a prompt of `prompt` tokens. Returns tokens per second, without the prefill.
    pub fn generation(&mut self, prompt: usize, tokens: usize) -> Result<f64> {
        let answer = self.worker.ask(&json!({"do": "generate", "prompt": prompt, "tokens": tokens}))?;
        Ok(tokens as f64 / seconds(&answer)?)
    }
}

fn seconds(answer: &Value) -> Result<f64> {
    answer["seconds"].as_f64().context("llama.cpp returned no duration")
}

#[derive(Debug)]
struct Worker {
    child: Child,
    requests: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
}

impl Worker {
    fn start() -> Result<Self> {
        let script = fixtures::root().join("tests/src/suites/speed/llama.py");
        let mut child = Command::new(python()?)
            .arg(script)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let requests = child.stdin.take().context("no standard input")?;
        let answers = BufReader::new(child.stdout.take().context("no standard output")?).lines();
        Ok(Self { child, requests, answers })
    }

    fn ask(&mut self, request: &Value) -> Result<Value> {
        writeln!(self.requests, "{request}")?;
        let answer = self.answers.next().context("llama.cpp ended")??;
        Ok(serde_json::from_str(&answer)?)
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // The process may have ended already.
        let _ = self.child.kill().and_then(|()| self.child.wait());
    }
}

/// Returns the path of a Python interpreter that has llama.cpp. On first use, installs it in a virtual environment.
fn python() -> Result<PathBuf> {
    let folder = fixtures::root().join("target/llama");
    let python = folder.join("bin/python");
    let has = |python: &Path| {
        let asked = Command::new(python).args(["-c", "import llama_cpp"]).stderr(Stdio::null()).status();
        asked.is_ok_and(|status| status.success())
    };
    if !has(&python) {
        eprintln!("building {PACKAGE} in {}", folder.display());
        let made = Command::new("python3").args(["-m", "venv"]).arg(&folder).status()?;
        ensure!(made.success(), "python3 -m venv failed: install Python's venv");
        let installed = Command::new(folder.join("bin/pip"))
            .args(["install", "--quiet", PACKAGE])
            .stdout(Stdio::null())
            .status()?;
        ensure!(installed.success() && has(&python), "pip install {PACKAGE} failed: see above");
    }
    Ok(python)
}
