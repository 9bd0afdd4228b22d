//! What a long piece of work says while it goes on: a bar on a terminal, a line a step elsewhere.

use indicatif::{ProgressBar, ProgressStyle};
use std::io::IsTerminal;
use std::time::{Duration, Instant};

/// A piece of work in a known number of steps.
pub struct Progress {
    bar: Option<ProgressBar>,
    start: Instant,
    step: usize,
    steps: usize,
}

impl Progress {
    /// Starts to show work named `title` that will call [`Progress::step`] `steps` times.
    pub fn new(title: &str, steps: usize) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new(steps as u64);
            let style = ProgressStyle::with_template("{prefix} {bar:20} {elapsed} {msg}")
                .expect("a valid template");
            bar.set_style(style);
            bar.set_prefix(title.to_owned());
            bar.enable_steady_tick(Duration::from_millis(500));
            bar
        });
        if bar.is_none() {
            eprintln!("{title}");
        }
        Self {
            bar,
            start: Instant::now(),
            step: 0,
            steps,
        }
    }

    /// Says that the next step begins.
    pub fn step(&mut self, what: &str) {
        match &self.bar {
            Some(bar) => {
                bar.set_position(self.step as u64);
                bar.set_message(what.to_owned());
            }
            None => eprintln!(
                "  {}/{} {what} ({} s)",
                self.step + 1,
                self.steps,
                self.start.elapsed().as_secs()
            ),
        }
        self.step += 1;
    }

    /// Says that the work is done.
    pub fn done(self) {
        let seconds = self.start.elapsed().as_secs();
        match self.bar {
            Some(bar) => bar.finish_with_message(format!("done in {seconds} s")),
            None => eprintln!("  done in {seconds} s"),
        }
    }
}
