//! A small revised simplex for the master problem of column generation.
//!
//! Promises: keeps a feasible basis and its inverse; [`Simplex::enter`] makes one pivot. The same
//! inputs give the same pivots: ties go to the lowest row, and only additions, products, quotients
//! and comparisons of `f64` are used, which every machine rounds alike.
//! Does not: look for columns (the caller prices them), nor prove optimality by itself. Errors of
//! rounding can make prices a little worse, never a placement illegal: prices only rank.
//!
//! Source: revised simplex with an explicit inverse (Chvátal, "Linear Programming", 1983, chapters
//! 7 and 13), which for some thirty rows costs a microsecond a pivot.

/// Smaller numbers count as zero.
const ZERO: f64 = 1e-9;

/// A maximisation with equality rows and a feasible basis.
#[derive(Clone, Debug)]
pub struct Simplex {
    rows: usize,
    /// Row by row.
    inverse: Vec<f64>,
    /// What the basic column of each row is worth.
    worth: Vec<f64>,
    /// How much of it there is.
    level: Vec<f64>,
}

impl Simplex {
    /// Starts from the basis whose inverse is given row by row, with `worth` nothing.
    pub fn new(inverse: Vec<f64>, level: Vec<f64>) -> Simplex {
        let rows = level.len();
        assert_eq!(inverse.len(), rows * rows, "an inverse is square");
        Simplex { rows, inverse, worth: vec![0.0; rows], level }
    }

    /// The dual price of each row.
    pub fn duals(&self) -> Vec<f64> {
        let mut duals = vec![0.0; self.rows];
        for (row, worth) in self.worth.iter().enumerate() {
            if *worth == 0.0 {
                continue;
            }
            let line = &self.inverse[row * self.rows..][..self.rows];
            for (dual, entry) in duals.iter_mut().zip(line) {
                *dual += worth * entry;
            }
        }
        duals
    }

    /// Brings `column`, worth `worth` each, into the basis. False where nothing limits it, or
    /// where it is a combination that cannot be told from zero: then nothing changed.
    pub fn enter(&mut self, column: &[f64], worth: f64) -> bool {
        let rows = self.rows;
        let direction: Vec<f64> = (0..rows)
            .map(|row| {
                let line = &self.inverse[row * rows..][..rows];
                line.iter().zip(column).map(|(entry, of)| entry * of).sum()
            })
            .collect();
        let Some(leaves) = self.leaving(&direction) else { return false };
        let pivot = direction[leaves];
        for entry in &mut self.inverse[leaves * rows..][..rows] {
            *entry /= pivot;
        }
        self.level[leaves] /= pivot;
        let line = self.inverse[leaves * rows..][..rows].to_vec();
        let amount = self.level[leaves];
        for row in (0..rows).filter(|row| *row != leaves) {
            let factor = direction[row];
            if factor == 0.0 {
                continue;
            }
            for (entry, of) in self.inverse[row * rows..][..rows].iter_mut().zip(&line) {
                *entry -= factor * of;
            }
            // Rounding must not make a level negative: the basis would count as infeasible.
            self.level[row] = (self.level[row] - factor * amount).max(0.0);
        }
        self.worth[leaves] = worth;
        true
    }

    /// The row whose level falls to nothing first; the largest pivot among equals, for stability.
    fn leaving(&self, direction: &[f64]) -> Option<usize> {
        let mut best: Option<(f64, f64, usize)> = None;
        for (row, &step) in direction.iter().enumerate() {
            if step <= ZERO {
                continue;
            }
            let ratio = self.level[row] / step;
            let better = match best {
                None => true,
                Some((least, pivot, _)) => {
                    ratio < least - ZERO || (ratio <= least + ZERO && step > pivot)
                }
            };
            if better {
                best = Some((ratio, step, row));
            }
        }
        best.map(|(_, _, row)| row)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_programme_reaches_its_optimum() {
        // max 3x + 5y; x <= 4, 2y <= 12, 3x + 2y <= 18: 36 at x = 2, y = 6.
        let identity = vec![1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0];
        let mut simplex = Simplex::new(identity, vec![4.0, 12.0, 18.0]);
        assert!(simplex.enter(&[0.0, 2.0, 2.0], 5.0));
        assert!(simplex.enter(&[1.0, 0.0, 3.0], 3.0));
        let duals = simplex.duals();
        let value = 4.0 * duals[0] + 12.0 * duals[1] + 18.0 * duals[2];
        assert!((value - 36.0).abs() < 1e-9, "{duals:?}");
        assert!((duals[1] - 1.5).abs() < 1e-9 && (duals[2] - 1.0).abs() < 1e-9, "{duals:?}");
    }

    #[test]
    fn a_column_that_nothing_limits_stays_out() {
        let mut simplex = Simplex::new(vec![1.0], vec![1.0]);
        assert!(!simplex.enter(&[-1.0], 1.0));
        assert_eq!(simplex.duals(), vec![0.0]);
    }
}
