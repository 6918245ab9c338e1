//! Language-model head. The argmax is updated tile by tile and needs no memory for all logits of a batch.

use rayon::prelude::*;

use super::activations::{Activations, Panels};
use super::packed_weight::PackedWeight;
use super::simd::{Isa, LANES, Simd, kernel};
use crate::network::Argmax;

const TASK_ROWS_MAX: usize = 64;

/// Largest and second-largest logit in each lane over the tiles so far. Lane `l` of a tile is id `16 * tile + l`.
#[derive(Clone, Copy)]
struct LaneArgmax {
    first: [f32; LANES],
    second: [f32; LANES],
    /// Tile of `first`.
    tile: [u32; LANES],
}

impl PackedWeight {
    /// Returns the argmax of each row's logits. A task computes at most `task_rows` rows. See [`Network::argmax`].
    ///
    /// [`Network::argmax`]: crate::network::Network::argmax
    pub(super) fn argmax(
        &self,
        isa: Isa,
        x: &[f32],
        masked: &[u32],
        targets: Option<&[u32]>,
        task_rows: usize,
    ) -> Vec<Argmax> {
        let task_rows = task_rows.min(TASK_ROWS_MAX);
        let width = self.inputs;
        let targets: Vec<Option<u32>> = match targets {
            Some(ids) => ids.iter().copied().map(Some).collect(),
            None => vec![None; x.len() / width],
        };
        let chunks = x.par_chunks(task_rows * width).zip(targets.par_chunks(task_rows));
        let argmax = chunks.map_init(
            || (Activations::default(), Vec::new(), Vec::new()),
            |(rows, panel, lanes), (x, targets)| {
                rows.quantise(isa, x, width);
                panel.resize(rows.count, [0.0; LANES]);
                self.argmax_of_rows(isa, rows, masked, targets, panel, lanes)
            },
        );
        argmax.flatten_iter().collect()
    }

    fn argmax_of_rows(
        &self,
        isa: Isa,
        rows: &Activations,
        masked: &[u32],
        targets: &[Option<u32>],
        panel: &mut Panels,
        lanes: &mut Vec<LaneArgmax>,
    ) -> Vec<Argmax> {
        let none = [f32::NEG_INFINITY; LANES];
        lanes.clear();
        lanes.resize(rows.count, LaneArgmax { first: none, second: none, tile: [0; LANES] });
        let mut target_logits = vec![f32::NEG_INFINITY; rows.count];
        for tile in 0..self.tiles() {
            self.gemm_tile(isa, tile, rows, panel);
            let lane = |id: u32| (id as usize / LANES == tile).then_some(id as usize % LANES);
            for lane in masked.iter().filter_map(|&id| lane(id)) {
                panel.iter_mut().for_each(|logits| logits[lane] = f32::NEG_INFINITY);
            }
            for ((target_logit, id), logits) in target_logits.iter_mut().zip(targets).zip(panel.iter()) {
                if let Some(lane) = id.and_then(lane) {
                    *target_logit = logits[lane];
                }
            }
            update_argmax(isa, tile as u32, panel, lanes);
        }
        lanes.iter().zip(target_logits).map(|(lanes, target)| lanes.reduce(target)).collect()
    }

    /// Returns the logits of all rows, `[rows][vocabulary]`. A task computes at least `task_tiles` tiles.
    pub(super) fn logits(&self, isa: Isa, x: &[f32], task_tiles: usize) -> Vec<f32> {
        let mut rows = Activations::default();
        rows.quantise(isa, x, self.inputs);
        let mut panels = vec![[0.0; LANES]; self.tiles() * rows.count];
        self.gemm(isa, &rows, task_tiles, &mut panels);
        let row = |row: usize| panels.iter().skip(row).step_by(rows.count).flatten().copied();
        (0..rows.count).flat_map(row).collect()
    }
}

kernel! {
    fn update_argmax(tile: u32, panel: &Panels, lanes: &mut [LaneArgmax]) = update_argmax_body;
}

#[inline(always)]
fn update_argmax_body<S: Simd>(_: S, tile: u32, panel: &Panels, lanes: &mut [LaneArgmax]) {
    for (logits, lanes) in panel.iter().zip(lanes) {
        let LaneArgmax { first, second, tile: of } = lanes;
        let kept = first.iter_mut().zip(second).zip(of);
        for (x, ((first, second), of)) in logits.iter().zip(kept) {
            let better = *x > *first;
            *second = second.max(if better { *first } else { *x });
            *of = if better { tile } else { *of };
            *first = if better { *x } else { *first };
        }
    }
}

impl LaneArgmax {
    fn reduce(&self, target: f32) -> Argmax {
        let id = |lane: usize| self.tile[lane] * LANES as u32 + lane as u32;
        let logit = self.first.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let equal = (0..LANES).filter(|&lane| self.first[lane] == logit);
        let best = equal.min_by_key(|&lane| id(lane)).unwrap_or_default();
        let others = (0..LANES).filter(|&lane| lane != best).map(|lane| self.first[lane]);
        let runner_up = others.chain(self.second).fold(f32::NEG_INFINITY, f32::max);
        Argmax { id: id(best), logit, runner_up, target }
    }
}
