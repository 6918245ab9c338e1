//! Load of one day, generated from a seed.

use std::f64::consts::TAU;
use std::ops::Range;

use fastrand::Rng;

use super::{PROVISIONING, START, STEP, STEPS, Stage};

/// Decoder time that verification takes, relative to the compressor time of the write.
const VERIFY: f64 = 0.4;

/// Mean work of one request in node-seconds. Requests arrive at random, so larger requests mean more noise.
const REQUEST: f64 = 0.5;

/// Mean load of a day, before bursts and the ramp.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Decoder time for reads, in node-seconds per second.
    pub reads: f64,
    /// Compressor time for writes, in node-seconds per second.
    pub writes: f64,
}

impl Default for Load {
    /// Returns a load that keeps about 16 decoders and 8 compressors busy.
    fn default() -> Self {
        Self { reads: 16.0, writes: 8.0 }
    }
}

/// A sudden change of demand or supply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// Step at which it happens.
    pub at: usize,
    /// Direction of the change.
    pub kind: EventKind,
}

/// Direction of an [`Event`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// A burst starts, or a zone fails: more nodes are needed.
    Rise,
    /// A burst ends, or the replacements of a failed zone's nodes are ready: fewer nodes are needed.
    Fall,
}

/// A day of load with its failures.
#[derive(Clone, Debug)]
pub struct Day {
    /// Work that arrives in each step for the compressors, in node-seconds.
    compressor: Vec<f64>,
    /// The same for the decoders.
    decoder: Vec<f64>,
    /// Bursts of reads.
    read_bursts: Vec<Burst>,
    /// Bursts of writes.
    write_bursts: Vec<Burst>,
    /// Steps during which one of three zones is down.
    pub zone_outage: Range<usize>,
    /// Steps during which Prometheus does not answer.
    pub metrics_outage: Range<usize>,
}

#[derive(Clone, Debug)]
struct Burst {
    steps: Range<usize>,
    factor: f64,
}

/// Slow rise of the load to a plateau, and the slow way back.
struct Ramp {
    start: f64,
    slope: f64,
    plateau: f64,
    factor: f64,
}

impl Day {
    /// Generates the day of a seed. Equal arguments yield equal days.
    pub fn generate(seed: u64, load: Load) -> Self {
        let mut random = Rng::with_seed(seed);
        let [mut read_bursts, mut write_bursts] = [Vec::new(), Vec::new()];
        for _ in 0..random.usize(4..=8) {
            let burst = Burst::generate(&mut random);
            // Reads are more frequent than writes; some bursts are both.
            let kind = random.f64();
            if kind < 0.7 {
                read_bursts.push(burst.clone());
            }
            if kind > 0.5 {
                write_bursts.push(burst);
            }
        }
        let phase = random.f64() * TAU;
        let (reads, writes) = (Ramp::generate(&mut random), Ramp::generate(&mut random));
        let reads = rates(&mut random, load.reads, phase, &reads, &read_bursts);
        // Writes peak up to three hours before or after reads.
        let phase = phase + TAU * (random.f64() - 0.5) / 4.0;
        let writes = rates(&mut random, load.writes, phase, &writes, &write_bursts);
        let decoder_rates = reads.iter().zip(&writes).map(|(reads, writes)| reads + VERIFY * writes);
        let decoder = arrivals(&mut random, decoder_rates);
        let compressor = arrivals(&mut random, writes.into_iter());
        let zone_outage = interval(&mut random, 30.0 * 60.0);
        let length = 60.0 * (2.0 + 8.0 * random.f64());
        let metrics_outage = interval(&mut random, length);
        Self { compressor, decoder, read_bursts, write_bursts, zone_outage, metrics_outage }
    }

    /// Returns the work that arrives for a stage in each step, in node-seconds.
    pub fn arrivals(&self, stage: Stage) -> &[f64] {
        match stage {
            Stage::Compressor => &self.compressor,
            Stage::Decoder => &self.decoder,
        }
    }

    /// Returns the events that change what a stage needs, in order of time.
    pub fn events(&self, stage: Stage) -> Vec<Event> {
        let reads = if stage == Stage::Decoder { self.read_bursts.as_slice() } else { &[] };
        let bursts = self.write_bursts.iter().chain(reads).map(|burst| burst.steps.clone());
        let replaced = self.zone_outage.start + steps((START + PROVISIONING).as_secs_f64());
        let mut events = Vec::new();
        for Range { start, end } in bursts.chain(std::iter::once(self.zone_outage.start..replaced)) {
            events.push(Event { at: start, kind: EventKind::Rise });
            events.push(Event { at: end, kind: EventKind::Fall });
        }
        events.sort_by_key(|event| event.at);
        events
    }
}

impl Burst {
    /// Returns a burst that multiplies the load by 2 to 6 for 1 to 20 minutes. Short and small ones are more frequent.
    fn generate(random: &mut Rng) -> Self {
        let length = 60.0 * 20f64.powf(random.f64());
        let factor = 2.0 * 3f64.powf(random.f64());
        Self { steps: interval(random, length), factor }
    }
}

impl Ramp {
    /// Returns a ramp of one to two hours to 1.5 to 2.5 times the load, with a plateau of one hour.
    fn generate(random: &mut Rng) -> Self {
        let slope = 3600.0 * (1.0 + random.f64());
        let plateau = 3600.0;
        let start = random.f64() * (24.0 * 3600.0 - 2.0 * slope - plateau);
        Self { start, slope, plateau, factor: 1.5 + random.f64() }
    }

    fn at(&self, seconds: f64) -> f64 {
        let since = seconds - self.start;
        let until = 2.0 * self.slope + self.plateau - since;
        1.0 + (self.factor - 1.0) * (since.min(until) / self.slope).clamp(0.0, 1.0)
    }
}

/// Returns the expected load of each step in node-seconds per second.
fn rates(random: &mut Rng, mean: f64, phase: f64, ramp: &Ramp, bursts: &[Burst]) -> Vec<f64> {
    // Correlated noise of 5 % that changes within about two minutes.
    let (deviation, keep) = (0.05, (-STEP.as_secs_f64() / 120.0).exp());
    let mut noise = deviation * normal(random);
    let rate = |step| {
        noise = keep * noise + deviation * (1.0 - keep * keep).sqrt() * normal(random);
        let seconds = step as f64 * STEP.as_secs_f64();
        let diurnal = 1.0 + 0.6 * (TAU * seconds / (24.0 * 3600.0) + phase).sin();
        let burst = bursts.iter().filter(|burst| burst.steps.contains(&step)).map(|burst| burst.factor);
        mean * diurnal * ramp.at(seconds) * burst.fold(1.0, f64::max) * (1.0 + noise).max(0.0)
    };
    (0..STEPS).map(rate).collect()
}

/// Draws the work of each step. Requests arrive independently and their sizes are exponentially distributed, so the
/// variance of their sum is twice the mean size times the mean sum.
fn arrivals(random: &mut Rng, rates: impl Iterator<Item = f64>) -> Vec<f64> {
    let draw = |rate: f64| {
        let mean = rate * STEP.as_secs_f64();
        (mean + (2.0 * REQUEST * mean).sqrt() * normal(random)).max(0.0)
    };
    rates.map(draw).collect()
}

/// Returns an interval of a length in seconds at a random time of the day.
fn interval(random: &mut Rng, seconds: f64) -> Range<usize> {
    let length = steps(seconds);
    let start = random.usize(0..STEPS - length);
    start..start + length
}

fn steps(seconds: f64) -> usize {
    (seconds / STEP.as_secs_f64()) as usize
}

/// Draws from the standard normal distribution (Box-Muller).
fn normal(random: &mut Rng) -> f64 {
    (-2.0 * (1.0 - random.f64()).ln()).sqrt() * (TAU * random.f64()).cos()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_always_yields_the_same_day() {
        let day = |seed| Day::generate(seed, Load::default());
        assert_eq!(day(1).decoder, day(1).decoder);
        assert_ne!(day(1).decoder, day(2).decoder);
    }

    #[test]
    fn events_are_in_order_and_writes_concern_both_stages() {
        let day = Day::generate(1, Load::default());
        let [compressor, decoder] = Stage::ALL.map(|stage| day.events(stage));
        assert!(decoder.is_sorted_by_key(|event| event.at));
        assert!(compressor.iter().all(|event| decoder.contains(event)));
        assert_eq!(decoder.len(), 2 * (day.read_bursts.len() + day.write_bursts.len() + 1));
    }

    #[test]
    fn bursts_multiply_the_load() {
        let mut random = Rng::with_seed(1);
        let flat = Ramp { start: 0.0, slope: 1.0, plateau: 0.0, factor: 1.0 };
        let burst = Burst { steps: 1000..2000, factor: 4.0 };
        let rates = rates(&mut random, 10.0, 0.0, &flat, &[burst]);
        let mean = |steps: Range<usize>| rates[steps.clone()].iter().sum::<f64>() / steps.len() as f64;
        assert!((3.5..4.5).contains(&(mean(1000..2000) / mean(0..1000))));
    }
}
