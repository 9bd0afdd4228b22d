//! The lines of the table that compare Firstlight with SeaBIOS, and some with OVMF, and what could not be measured.

use super::Figure;
use super::measure::Contestant;
use anyhow::Result;
use firstlight_vm::Machine;

/// How often each firmware is timed where they take turns.
pub const RUNS: u32 = 3;

/// Lines of one machine.
pub struct Rows<'a> {
    machine: Machine,
    firmwares: [&'a Contestant; 2],
    /// The lines so far.
    pub figures: Vec<Figure>,
    /// What failed, in words. A line without Firstlight's figure is left out, one without SeaBIOS's has none.
    pub failures: Vec<String>,
}

impl<'a> Rows<'a> {
    /// No lines yet.
    pub fn new(machine: Machine, firstlight: &'a Contestant, seabios: &'a Contestant) -> Self {
        Self {
            machine,
            firmwares: [firstlight, seabios],
            figures: Vec::new(),
            failures: Vec::new(),
        }
    }

    /// Says what is measured now.
    pub fn begin(&self, what: &str) {
        eprintln!("Measuring on {}: {what}", self.machine.name());
    }

    /// Both firmwares, and a third.
    pub fn and<'b>(&self, third: &'b Contestant) -> [&'b Contestant; 3]
    where
        'a: 'b,
    {
        let [firstlight, seabios] = self.firmwares;
        [firstlight, seabios, third]
    }

    /// Measures both firmwares.
    pub fn both<T>(
        &mut self,
        what: &str,
        measure: impl FnMut(&Contestant) -> Result<T>,
    ) -> [Option<T>; 2] {
        self.each(what, self.firmwares, measure)
    }

    /// Measures these firmwares.
    pub fn each<T, const N: usize>(
        &mut self,
        what: &str,
        firmwares: [&Contestant; N],
        mut measure: impl FnMut(&Contestant) -> Result<T>,
    ) -> [Option<T>; N] {
        firmwares.map(|firmware| self.keep(what, firmware, measure(firmware)))
    }

    /// Measures both firmwares `runs` times, in turns; one that failed once is left alone.
    pub fn in_turns(
        &mut self,
        what: &str,
        runs: u32,
        measure: impl FnMut(&Contestant) -> Result<f64>,
    ) -> [Option<f64>; 2] {
        self.each_in_turns(what, self.firmwares, runs, measure)
    }

    /// The same for these firmwares.
    pub fn each_in_turns<const N: usize>(
        &mut self,
        what: &str,
        firmwares: [&Contestant; N],
        runs: u32,
        mut measure: impl FnMut(&Contestant) -> Result<f64>,
    ) -> [Option<f64>; N] {
        let mut values = [const { Some(Vec::new()) }; N];
        for _ in 0..runs {
            for (firmware, values) in firmwares.into_iter().zip(&mut values) {
                let Some(list) = values else { continue };
                match self.keep(what, firmware, measure(firmware)) {
                    Some(value) => list.push(value),
                    None => *values = None,
                }
            }
        }
        values.map(|values| {
            values
                .filter(|values| !values.is_empty())
                .map(super::median)
        })
    }

    /// Adds a line.
    pub fn add(
        &mut self,
        what: impl Into<String>,
        [firstlight, seabios]: [Option<f64>; 2],
        digits: usize,
        more_is_better: bool,
    ) {
        self.add_with_ovmf(what, [firstlight, seabios, None], digits, more_is_better);
    }

    /// Adds a line that OVMF has a part in.
    pub fn add_with_ovmf(
        &mut self,
        what: impl Into<String>,
        [firstlight, seabios, ovmf]: [Option<f64>; 3],
        digits: usize,
        more_is_better: bool,
    ) {
        self.figures.extend(firstlight.map(|firstlight| Figure {
            machine: self.machine,
            what: what.into(),
            firstlight,
            seabios,
            qboot: None,
            ovmf,
            digits,
            more_is_better,
        }));
    }

    /// What was measured, unless it failed.
    pub fn keep<T>(&mut self, what: &str, firmware: &Contestant, result: Result<T>) -> Option<T> {
        result
            .map_err(|error| {
                let failure = format!("{}: {what}: {}: {error:#}", self.machine, firmware.name);
                eprintln!("{failure}");
                self.failures.push(failure);
            })
            .ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fails_is_told_and_leaves_the_rest() {
        let [ours, theirs] = ["Firstlight", "SeaBIOS"].map(|name| Contestant::new(name, None));
        let mut rows = Rows::new(Machine::Pc, &ours, &theirs);
        let measure = |firmware: &Contestant| match firmware.name {
            "Firstlight" => Ok(2.0),
            _ => anyhow::bail!("never"),
        };
        let values = rows.both("seconds", measure);
        rows.add("seconds", values, 0, false);
        let values = rows.in_turns("turns", 3, measure);
        rows.add("turns", values, 0, false);
        rows.add("nothing", [None, Some(1.0)], 0, false);
        let lines: Vec<_> = rows
            .figures
            .iter()
            .map(|figure| (figure.what.as_str(), figure.firstlight, figure.seabios))
            .collect();
        assert_eq!(lines, [("seconds", 2.0, None), ("turns", 2.0, None)]);
        assert_eq!(
            rows.failures,
            ["pc: seconds: SeaBIOS: never", "pc: turns: SeaBIOS: never"]
        );
    }
}
