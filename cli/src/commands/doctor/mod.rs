//! `c3 doctor`: checks everything that a call needs, and says what to do about each problem.

mod checks;

use serde::Serialize;

use self::checks::Gateway;
use crate::args::TargetArgs;
use crate::error::{CliError, FAILED};
use crate::output::{Align, Cell, Column, Table, style};

const COLUMNS: &[Column] = &[("state", Align::Left), ("check", Align::Left), ("found, and what to do", Align::Left)];

/// Result of a check.
#[derive(Clone, Debug, PartialEq, Serialize)]
struct Check {
    name: &'static str,
    state: State,
    /// Description of what was found.
    detail: String,
    /// Remedy; empty if nothing needs to be done.
    advice: String,
}

/// State of what was checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum State {
    Ok,
    /// Works, but deserves attention.
    Warning,
    Failed,
    /// Could not be checked.
    Skipped,
}

/// JSON record of the command.
#[derive(Serialize)]
struct Diagnosis {
    ok: bool,
    checks: Vec<Check>,
}

impl Check {
    fn ok(name: &'static str, detail: impl ToString) -> Self {
        Self { name, state: State::Ok, detail: detail.to_string(), advice: String::new() }
    }

    fn warning(name: &'static str, detail: impl ToString, advice: impl ToString) -> Self {
        Self { name, state: State::Warning, detail: detail.to_string(), advice: advice.to_string() }
    }

    fn failed(name: &'static str, detail: impl ToString, advice: impl ToString) -> Self {
        Self { state: State::Failed, ..Self::warning(name, detail, advice) }
    }

    fn skipped(name: &'static str, detail: impl ToString, advice: impl ToString) -> Self {
        Self { state: State::Skipped, ..Self::warning(name, detail, advice) }
    }

    /// Prints the check and, in a row of its own, the advice.
    fn print(self, table: &mut Table) -> Result<(), CliError> {
        let (state, color) = match self.state {
            State::Ok => ("ok", style::GOOD),
            State::Warning => ("warning", style::WARNING),
            State::Failed => ("failed", style::BAD),
            State::Skipped => ("skipped", style::DIM),
        };
        table.row([Cell::new(state).style(color), self.name.into(), self.detail.into()])?;
        match self.advice.as_str() {
            "" => Ok(()),
            advice => table.row(["".into(), "".into(), format!("→ {advice}").into()]),
        }
    }
}

/// Makes all checks and prints them. Fails if a check failed.
pub(crate) async fn run(args: TargetArgs) -> Result<(), CliError> {
    let mut checks = vec![checks::configuration(&args.remote), checks::model(&args.model).await];
    match Gateway::connect(&args.remote).await {
        Ok((gateway, check)) => {
            checks.push(check);
            checks.extend(gateway.checks());
        }
        Err(check) => {
            checks.push(check);
            let skipped = |name| Check::skipped(name, "no gateway was reached", "");
            checks.extend(Gateway::CHECKS.map(skipped));
        }
    }
    let ok = checks.iter().all(|check| check.state != State::Failed);
    let diagnosis = Diagnosis { ok, checks };
    if args.remote.format.json {
        args.remote.format.print("", &diagnosis)?;
    } else {
        let mut table = Table::new(COLUMNS);
        diagnosis.checks.into_iter().try_for_each(|check| check.print(&mut table))?;
        table.finish()?;
    }
    if ok { Ok(()) } else { Err(CliError::Reported(FAILED)) }
}
