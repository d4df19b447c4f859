//! What the rounds came to: a median and the quartiles around it, of figures and of ratios.

use std::fmt;

/// A median and the quartiles around it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Spread {
    pub(crate) low: f64,
    pub(crate) median: f64,
    pub(crate) high: f64,
}

impl Spread {
    /// Of at least one sample.
    pub(crate) fn of(samples: &[f64]) -> Spread {
        let mut samples = samples.to_vec();
        samples.sort_by(f64::total_cmp);
        let at = |quarter: usize| {
            let place = (samples.len() - 1) as f64 * quarter as f64 / 4.0;
            let (below, above) = (place.floor() as usize, place.ceil() as usize);
            samples[below] + (samples[above] - samples[below]) * place.fract()
        };
        Spread {
            low: at(1),
            median: at(2),
            high: at(3),
        }
    }

    /// Of the ratios of samples that were taken in the same rounds.
    pub(crate) fn of_ratios(samples: &[f64], bases: &[f64]) -> Spread {
        let ratios: Vec<f64> = samples.iter().zip(bases).map(|(a, b)| a / b).collect();
        Spread::of(&ratios)
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (low, high) = (figure(self.low), figure(self.high));
        let median = figure(self.median);
        match low == high {
            true => f.write_str(&median),
            false => write!(f, "{median} ({low}–{high})"),
        }
    }
}

/// With three digits that count, and no more than two after the point.
pub(crate) fn figure(value: f64) -> String {
    let digits = match value.abs() {
        size if size >= 100.0 => 0,
        size if size >= 10.0 => 1,
        _ => 2,
    };
    format!("{value:.digits$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quartiles_lie_between_samples() {
        let spread = Spread::of(&[4.0, 1.0, 3.0, 2.0]);
        assert_eq!((spread.low, spread.median, spread.high), (1.75, 2.5, 3.25));
    }

    #[test]
    fn one_sample_has_no_spread() {
        assert_eq!(Spread::of(&[7.0]).to_string(), "7.00");
    }

    #[test]
    fn a_ratio_is_that_of_each_round() {
        // Twice as much in each round, though the machine was ten times slower in one.
        let spread = Spread::of_ratios(&[2.0, 20.0, 2.0], &[1.0, 10.0, 1.0]);
        assert_eq!((spread.low, spread.median, spread.high), (2.0, 2.0, 2.0));
    }

    #[test]
    fn figures_are_as_long_as_they_tell_something() {
        let figures = [0.123, 1.234, 12.34, 1234.5].map(figure);
        assert_eq!(figures, ["0.12", "1.23", "12.3", "1234"]);
    }
}
