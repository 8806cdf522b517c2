//! The results, as text and as Markdown.

use std::fmt;
use std::time::Duration;

use crate::exporter::Cost;

/// One line: situation, measure, target, result.
#[derive(Debug)]
struct Line {
    situation: String,
    measure: String,
    goal: String,
    measured: String,
}

/// All lines, in the order of measurement.
#[derive(Debug, Default)]
pub struct Table {
    lines: Vec<Line>,
}

impl Table {
    /// Adds a line; an empty target means none.
    pub fn add(&mut self, situation: &str, measure: &str, goal: &str, measured: impl Into<String>) {
        let line = Line {
            situation: situation.to_owned(),
            measure: measure.to_owned(),
            goal: goal.to_owned(),
            measured: measured.into(),
        };
        eprintln!(
            "  {}: {} (target: {})",
            line.measure, line.measured, line.goal
        );
        self.lines.push(line);
    }

    /// The table in the form that [`Table::read`] reads.
    pub fn written(&self) -> String {
        let fields = |line: &Line| {
            [&line.situation, &line.measure, &line.goal, &line.measured]
                .map(String::as_str)
                .join("\t")
        };
        self.lines.iter().map(|line| fields(line) + "\n").collect()
    }

    /// Adds the lines that another process has written.
    pub fn read(&mut self, written: &str) {
        for line in written.lines() {
            let fields: Vec<&str> = line.split('\t').collect();
            let [situation, measure, goal, measured] = fields[..] else {
                panic!("no line of a table: {line}");
            };
            self.lines.push(Line {
                situation: situation.to_owned(),
                measure: measure.to_owned(),
                goal: goal.to_owned(),
                measured: measured.to_owned(),
            });
        }
    }

    /// A table as GitHub shows it.
    pub fn markdown(&self) -> String {
        let mut text = String::from("| situation | | target | measured |\n|---|---|---|---|\n");
        let mut before = "";
        for line in &self.lines {
            let nothing = String::new();
            let situation = if line.situation == before {
                &nothing
            } else {
                &line.situation
            };
            let cells = [situation, &line.measure, &line.goal, &line.measured];
            text.extend(["| ", &cells.map(String::as_str).join(" | "), " |\n"]);
            before = &line.situation;
        }
        text
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut before = "";
        for line in &self.lines {
            if line.situation != before {
                writeln!(f, "{}", line.situation)?;
                before = &line.situation;
            }
            writeln!(
                f,
                "    {:<34} {:<18} {}",
                line.measure, line.goal, line.measured
            )?;
        }
        Ok(())
    }
}

/// The median of some costs: of CPU and of wall time, each by itself.
pub fn median(costs: &[Cost]) -> Cost {
    let middle = |of: fn(&Cost) -> Duration| {
        let mut durations: Vec<Duration> = costs.iter().map(of).collect();
        durations.sort_unstable();
        durations[durations.len() / 2]
    };
    Cost {
        cpu: middle(|cost| cost.cpu),
        wall: middle(|cost| cost.wall),
    }
}

/// The mean of some costs.
pub fn mean(costs: &[Cost]) -> Cost {
    let count = u32::try_from(costs.len()).expect("few");
    Cost {
        cpu: costs.iter().map(|cost| cost.cpu).sum::<Duration>() / count,
        wall: costs.iter().map(|cost| cost.wall).sum::<Duration>() / count,
    }
}

/// The minimum of some costs: of CPU and of wall time, each by itself.
pub fn least(costs: &[Cost]) -> Cost {
    Cost {
        cpu: costs.iter().map(|cost| cost.cpu).min().unwrap(),
        wall: costs.iter().map(|cost| cost.wall).min().unwrap(),
    }
}

/// One duration as a multiple of another.
pub fn ratio(one: Duration, of: Duration) -> f64 {
    one.as_secs_f64() / of.as_secs_f64().max(f64::MIN_POSITIVE)
}

/// Milliseconds, for reading.
pub fn ms(duration: Duration) -> String {
    let value = duration.as_secs_f64() * 1e3;
    if value < 10.0 {
        format!("{value:.2} ms")
    } else {
        format!("{value:.0} ms")
    }
}

/// Mebibytes, for reading.
pub fn mib(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / 1_048_576.0)
}
