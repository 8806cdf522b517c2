//! Writes what packages contain about the flags, made from the flags themselves: manual pages,
//! completions for shells, and the environment file of the systemd unit.
//!
//! `cargo run --example manual -- DIRECTORY`. The directory must be there.

#![allow(
    clippy::disallowed_methods,
    reason = "it writes files, and is no part of the exporter"
)]

use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};

use clap::{Arg, ArgAction, Command, ValueHint, value_parser};
use clap_complete::{Shell, generate, generate_to};
use clap_mangen::Man;
use clap_mangen::roff::{Roff, roman};
use timewait_exporter::cli;

const NAME: &str = "timewait_exporter";

fn main() -> io::Result<()> {
    let matches = Command::new("manual")
        .about("Writes manual pages, completions and the environment file into a directory")
        .arg(
            Arg::new("directory")
                .required(true)
                .value_parser(value_parser!(PathBuf)),
        )
        .get_matches();
    match matches.get_one::<PathBuf>("directory") {
        Some(directory) => write_all(directory),
        None => Ok(()),
    }
}

fn write_all(directory: &Path) -> io::Result<()> {
    // The program's own version text is made for --version.
    let command = cli::command()
        .display_name(NAME)
        .version(env!("CARGO_PKG_VERSION"));
    std::fs::write(directory.join("environment"), environment(&command))?;
    let completed = with_hints(command.clone());
    for shell in [Shell::Bash, Shell::Zsh] {
        generate_to(shell, &mut completed.clone(), NAME, directory)?;
    }
    let file = directory.join(format!("{NAME}.fish"));
    std::fs::write(file, fish(completed))?;
    let mut built = command;
    built.build();
    write_page(directory, NAME, built.clone())?;
    for subcommand in built.get_subcommands() {
        let name = format!("{NAME}-{}", subcommand.get_name());
        write_page(directory, &name, subcommand.clone())?;
    }
    Ok(())
}

/// A manual page: clap's, but for the text after the help, which would be set line by line.
fn write_page(directory: &Path, name: &str, command: Command) -> io::Result<()> {
    let after = command.get_after_help().map(ToString::to_string);
    let subcommands = command.has_subcommands();
    let headings: Vec<String> = command
        .get_arguments()
        .filter_map(|arg| arg.get_help_heading().map(ToOwned::to_owned))
        .collect();
    let file = directory.join(format!("{name}.1"));
    // Else the page's name is taken to be the last word.
    let page = Man::new(command.name(name.to_owned()).after_help(""));
    let version = env!("CARGO_PKG_VERSION");
    // Man's own title loses an empty date, and the fields after it move up.
    let title =
        format!(".TH {name} 1 \"\" \"timewait_exporter {version}\" \"Prometheus exporters\"\n");
    let mut text = title.into_bytes();
    page.render_name_section(&mut text)?;
    page.render_synopsis_section(&mut text)?;
    page.render_description_section(&mut text)?;
    let mut options = Vec::new();
    page.render_options_section(&mut options)?;
    let options = String::from_utf8_lossy(&options);
    text.extend(without_flags_in_headings(&options, &headings).into_bytes());
    if subcommands {
        page.render_subcommands_section(&mut text)?;
    }
    sections(&after.unwrap_or_default()).to_writer(&mut text)?;
    std::fs::write(file, text)
}

/// Headings are set in capitals, which a flag is not to be: "Name (what a flag does)" becomes a heading
/// and a sentence below it.
fn without_flags_in_headings(options: &str, headings: &[String]) -> String {
    let mut text = options.to_owned();
    for heading in headings {
        let parts = heading.strip_suffix(')').and_then(|it| it.split_once(" ("));
        let Some((name, note)) = parts.filter(|(_, note)| note.contains("--")) else {
            continue;
        };
        let mut found = Roff::new();
        found.control("SH", [heading.to_uppercase().as_str()]);
        let mut set = Roff::new();
        set.control("SH", [name.to_uppercase().as_str()]);
        let first = note.chars().take(1).collect::<String>().to_uppercase();
        let rest: String = note.chars().skip(1).collect();
        set.text([roman(format!("{first}{rest}."))]);
        text = text.replace(&found.to_roff(), &set.to_roff());
    }
    text
}

/// Paragraphs of the form "Heading:" and indented lines, each as a section.
fn sections(text: &str) -> Roff {
    let mut page = Roff::new();
    for paragraph in text.split("\n\n") {
        let Some((heading, body)) = paragraph.split_once(":\n") else {
            continue;
        };
        let words: Vec<&str> = body.split_whitespace().collect();
        page.control("SH", [heading.to_uppercase().as_str()]);
        page.text([roman(words.join(" "))]);
    }
    page
}

/// What completions offer as values: files only where one belongs, and of namespaces the words that are
/// choices. Only here, for a parser that knew these words would refuse the names of namespaces.
fn with_hints(command: Command) -> Command {
    command
        .mut_arg("namespaces", |arg| {
            arg.value_parser(["self", "named", "all"])
        })
        .mut_args(with_hint)
        .mut_subcommands(|subcommand| subcommand.mut_args(with_hint))
}

fn with_hint(arg: Arg) -> Arg {
    if arg.get_value_hint() == ValueHint::Unknown && arg.get_action().takes_values() {
        arg.value_hint(ValueHint::Other)
    } else {
        arg
    }
}

/// Completions for fish, with other conditions: clap's find the subcommand with fish's argparse, which
/// refuses names of flags that have a dot in them, and then nothing is completed.
fn fish(mut command: Command) -> String {
    let mut generated = Vec::new();
    generate(Shell::Fish, &mut command, NAME, &mut generated);
    let generated = String::from_utf8_lossy(&generated);
    let names: Vec<&str> = command.get_subcommands().map(Command::get_name).collect();
    let mut text = format!(
        "\
function __fish_{NAME}_needs_command
    not __fish_seen_subcommand_from {}
end

function __fish_{NAME}_using_subcommand
    __fish_seen_subcommand_from $argv
end

",
        names.join(" ")
    );
    let completions = generated.split_once("\ncomplete ");
    text.push_str("complete ");
    text.push_str(completions.map(|(_, after)| after).unwrap_or_default());
    text
}

/// The environment file: each flag's variable, commented out, with its default.
fn environment(command: &Command) -> String {
    let mut text = "\
# Settings of timewait_exporter.service; see timewait_exporter(1). Take effect with
# systemctl restart timewait_exporter.
#
# Where a flag can be repeated, its variable holds several values separated by spaces. Where it takes
# no value, its variable holds true or false. What is shown is the default, or an example where there
# is none.
"
    .to_owned();
    let shown = command
        .get_arguments()
        .filter(|arg| !arg.is_hide_set())
        .filter(|arg| !matches!(arg.get_action(), ArgAction::Help | ArgAction::Version));
    for arg in shown {
        let Some(flag) = arg.get_long() else { continue };
        let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
        let lines = wrapped(&format!("{help}."));
        let variable = cli::variable_of(flag);
        let value = shown_value(arg, flag);
        // Writing to a String cannot fail.
        let _always = write!(text, "\n{lines}#{variable}={value}\n");
    }
    text
}

/// The default, or an example.
fn shown_value(arg: &Arg, flag: &str) -> String {
    let defaults = arg.get_default_values();
    if !arg.get_action().takes_values() {
        // A collector or a breakdown is on unless it is switched off.
        return flag.starts_with("collector.").to_string();
    }
    if defaults.is_empty() {
        return example(flag).to_owned();
    }
    let words: Vec<_> = defaults.iter().map(|word| word.to_string_lossy()).collect();
    words.join(" ")
}

fn example(flag: &str) -> &'static str {
    match flag {
        "collector.pin-port" => "443 5432",
        "collector.pin-destination" => "192.0.2.10:443 [2001:db8::10]:5432",
        "web.config.file" => "/etc/timewait_exporter/web.yml",
        _ => "",
    }
}

/// A comment of at most 100 columns.
fn wrapped(text: &str) -> String {
    let mut lines = String::new();
    let mut width = 0;
    for word in text.split_whitespace() {
        if width == 0 || width + 1 + word.len() > 100 {
            lines.push_str(if width == 0 { "#" } else { "\n#" });
            width = 1;
        }
        lines.push(' ');
        lines.push_str(word);
        width += 1 + word.len();
    }
    lines.push('\n');
    lines
}
