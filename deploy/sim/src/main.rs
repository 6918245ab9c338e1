//! `c3-sim [--days N] [--seed N] [--json] MANIFEST...`: simulates days of load under the ScaledObjects of the
//! manifests.
//!
//! A ScaledObject whose queries contain `compressor` or `decoder` applies to that stage; each stage needs one. Prints
//! one line per day and the totals. With `--json`, prints one object per day. The exit code is 1 if the totals exceed a
//! bound, and 2 if an argument or a manifest is wrong.

use std::error::Error;
use std::process::ExitCode;

use c3_sim::model::{Day, Load, Stage};
use c3_sim::outcome::{COST_MAX, LATE_MAX, Outcome, SLOW_MAX, evaluate};
use c3_sim::rule::Rule;

const USAGE: &str = "usage: c3-sim [--days N] [--seed N] [--json] MANIFEST...";

struct Arguments {
    days: u64,
    seed: u64,
    json: bool,
    manifests: Vec<String>,
}

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("c3-sim: {error}");
            ExitCode::from(2)
        }
    }
}

/// Returns whether all bounds are held.
fn run() -> Result<bool, Box<dyn Error>> {
    let arguments = Arguments::parse(std::env::args().skip(1))?;
    let mut rules = Vec::new();
    for path in &arguments.manifests {
        let manifest = std::fs::read_to_string(path).map_err(|error| format!("{path}: {error}"))?;
        rules.extend(Rule::all_from_manifest(&manifest).map_err(|error| format!("{path}: {error}"))?);
    }
    let rules = [rule_of(Stage::Compressor, &rules)?, rule_of(Stage::Decoder, &rules)?];
    let mut totals = [Outcome::default(); 2];
    if !arguments.json {
        println!("seed  stage       flaps  replica-h  oracle-h  ratio  wait > 10 s  wait > 30 s  longest");
    }
    for day in 0..arguments.days {
        let seed = arguments.seed + day;
        let load = Day::generate(seed, Load::default());
        let mut line = serde_json::json!({"seed": seed});
        for ((stage, rule), total) in Stage::ALL.into_iter().zip(rules).zip(&mut totals) {
            let outcome = evaluate(&load, stage, rule)?;
            *total += outcome;
            if arguments.json {
                line[stage.name()] = serde_json::json!(outcome);
            } else {
                print(&seed.to_string(), stage.name(), &outcome);
            }
        }
        if arguments.json {
            println!("{line}");
        }
    }
    let [mut all, decoder] = totals;
    all += decoder;
    if !arguments.json {
        for (stage, total) in Stage::ALL.into_iter().zip(&totals) {
            print("all", stage.name(), total);
        }
        print("all", "both", &all);
        println!(
            "bounds            0                       {COST_MAX:5.2}  {:10.2}%  {:10.2}%",
            100.0 * SLOW_MAX,
            100.0 * LATE_MAX
        );
    }
    Ok(all.within_bounds())
}

/// Returns the rule whose queries name a stage.
fn rule_of(stage: Stage, rules: &[Rule]) -> Result<&Rule, String> {
    let names = |rule: &&Rule| rule.triggers.iter().all(|trigger| trigger.query.contains(stage.name()));
    let mut rules = rules.iter().filter(names);
    match (rules.next(), rules.next()) {
        (Some(rule), None) => Ok(rule),
        (None, _) => Err(format!("no ScaledObject has queries of the stage {}", stage.name())),
        (Some(_), Some(_)) => Err(format!("several ScaledObjects have queries of the stage {}", stage.name())),
    }
}

fn print(day: &str, stage: &str, outcome: &Outcome) {
    println!(
        "{day:4}  {stage:10}  {:5}  {:9.1}  {:8.1}  {:5.2}  {:10.2}%  {:10.2}%  {:5.0} s",
        outcome.flaps,
        outcome.replica_hours,
        outcome.oracle_hours,
        outcome.cost(),
        100.0 * outcome.slow(),
        100.0 * outcome.late(),
        outcome.wait_max,
    );
}

impl Arguments {
    fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut parsed = Self { days: 20, seed: 1, json: false, manifests: Vec::new() };
        while let Some(argument) = arguments.next() {
            let mut number = |name: &str| {
                let value = arguments.next().and_then(|value| value.parse().ok());
                value.ok_or_else(|| format!("{name} needs a number"))
            };
            match argument.as_str() {
                "--days" => parsed.days = number("--days")?,
                "--seed" => parsed.seed = number("--seed")?,
                "--json" => parsed.json = true,
                flag if flag.starts_with('-') => return Err(USAGE.to_owned()),
                _ => parsed.manifests.push(argument),
            }
        }
        if parsed.manifests.is_empty() || parsed.days == 0 { Err(USAGE.to_owned()) } else { Ok(parsed) }
    }
}
