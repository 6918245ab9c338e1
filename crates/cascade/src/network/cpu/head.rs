//! The output head: the best token of each row, found beside its logits, which are kept nowhere.

use rayon::prelude::*;

use super::rows::{Panels, Rows};
use super::simd::{Isa, LANES, Simd, kernel};
use super::weight::Weight;
use crate::network::Best;

/// Rows that are computed together.
const CHUNK_ROWS: usize = 64;

/// The best of the ids that fell into each lane.
#[derive(Clone, Copy)]
struct Lanes {
    first: [f32; LANES],
    second: [f32; LANES],
    tile: [u32; LANES],
}

impl Weight {
    /// The best token of each row of `x`, ids of `skip` left out; `truth` names a token of each row whose logit is told.
    pub(super) fn best(
        &self,
        isa: Isa,
        x: &[f32],
        skip: &[u32],
        truth: Option<&[u32]>,
        chunk: usize,
    ) -> Vec<Best> {
        let chunk = chunk.min(CHUNK_ROWS);
        let width = self.inputs;
        let truth: Vec<Option<u32>> = match truth {
            Some(ids) => ids.iter().copied().map(Some).collect(),
            None => vec![None; x.len() / width],
        };
        let chunks = x.par_chunks(chunk * width).zip(truth.par_chunks(chunk));
        let best = chunks.map_init(
            || (Rows::default(), Vec::new(), Vec::new()),
            |(rows, panel, lanes), (x, truth)| {
                rows.round(isa, x, width);
                panel.resize(rows.count, [0.0; LANES]);
                self.best_of_rows(isa, rows, skip, truth, panel, lanes)
            },
        );
        best.flatten_iter().collect()
    }

    fn best_of_rows(
        &self,
        isa: Isa,
        rows: &Rows,
        skip: &[u32],
        truth: &[Option<u32>],
        panel: &mut Panels,
        lanes: &mut Vec<Lanes>,
    ) -> Vec<Best> {
        let none = [f32::NEG_INFINITY; LANES];
        lanes.clear();
        lanes.resize(rows.count, Lanes { first: none, second: none, tile: [0; LANES] });
        let mut of_truth = vec![f32::NEG_INFINITY; rows.count];
        for tile in 0..self.tiles() {
            self.panel(isa, tile, rows, panel);
            let lane = |id: u32| (id as usize / LANES == tile).then_some(id as usize % LANES);
            for lane in skip.iter().filter_map(|&id| lane(id)) {
                panel.iter_mut().for_each(|logits| logits[lane] = f32::NEG_INFINITY);
            }
            for ((of_truth, id), logits) in of_truth.iter_mut().zip(truth).zip(panel.iter()) {
                if let Some(lane) = id.and_then(lane) {
                    *of_truth = logits[lane];
                }
            }
            keep_best(isa, tile as u32, panel, lanes);
        }
        lanes.iter().zip(of_truth).map(|(lanes, truth)| lanes.best(truth)).collect()
    }

    /// All logits of rows, row after row.
    pub(super) fn logits(&self, isa: Isa, x: &[f32], run: usize) -> Vec<f32> {
        let mut rows = Rows::default();
        rows.round(isa, x, self.inputs);
        let mut panels = vec![[0.0; LANES]; self.tiles() * rows.count];
        self.product(isa, &rows, run, &mut panels);
        let row = |row: usize| panels.iter().skip(row).step_by(rows.count).flatten().copied();
        (0..rows.count).flat_map(row).collect()
    }
}

kernel! {
    fn keep_best(tile: u32, panel: &Panels, lanes: &mut [Lanes]) = keep_best_body;
}

#[inline(always)]
fn keep_best_body<S: Simd>(_: S, tile: u32, panel: &Panels, lanes: &mut [Lanes]) {
    for (logits, lanes) in panel.iter().zip(lanes) {
        let Lanes { first, second, tile: of } = lanes;
        let kept = first.iter_mut().zip(second).zip(of);
        for (x, ((first, second), of)) in logits.iter().zip(kept) {
            let better = *x > *first;
            *second = second.max(if better { *first } else { *x });
            *of = if better { tile } else { *of };
            *first = if better { *x } else { *first };
        }
    }
}

impl Lanes {
    fn best(&self, truth: f32) -> Best {
        let id = |lane: usize| self.tile[lane] * LANES as u32 + lane as u32;
        let logit = self.first.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let equal = (0..LANES).filter(|&lane| self.first[lane] == logit);
        let best = equal.min_by_key(|&lane| id(lane)).unwrap_or_default();
        let others = (0..LANES).filter(|&lane| lane != best).map(|lane| self.first[lane]);
        let second = others.chain(self.second).fold(f32::NEG_INFINITY, f32::max);
        Best { id: id(best), logit, second, truth }
    }
}
