//! The `tokenry` command.

use std::{env, ffi::OsString, io::Write, process::ExitCode};

use anstyle::AnsiColor;
use clap::{
    CommandFactory, FromArgMatches, Parser, Subcommand,
    error::{ContextKind, ContextValue, Error, ErrorKind},
};
use clap_complete::Shell;
use tokenry::{
    bootstrap::{self, Bootstrap},
    console::{
        Console,
        failure::{EXIT_CODES, Failure, Kind},
        options::Options,
        output,
    },
    migrate::{self, Migrate},
    serve::{self, Serve},
    tag_key::{self, TagKeyCommand},
    value_key::{self, ValueKeyCommand},
};

/// Run Tokenry on this computer, create the accounts of a deployment, and call the API
#[derive(Debug, Parser)]
#[command(name = "tokenry", version, after_long_help = EXIT_CODES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    options: Options,
}

#[derive(Debug, Subcommand)]
enum Command {
    Serve(Serve),
    Bootstrap(Bootstrap),
    Migrate(Migrate),
    #[command(subcommand)]
    ValueKey(ValueKeyCommand),
    #[command(subcommand)]
    TagKey(TagKeyCommand),
    #[command(flatten)]
    Console(Console),
    /// Print the completion script for a shell
    Completions {
        shell: Shell,
    },
}

#[tokio::main]
async fn main() -> ExitCode {
    let cli = match parse() {
        Ok(cli) => cli,
        Err(error) => return refuse(&without_values(error)),
    };
    let mut json = false;
    let done = match cli.command {
        Command::Serve(args) => serve::run(args).await.map_err(other),
        Command::Bootstrap(args) => bootstrap::run(args).await.map_err(other),
        Command::Migrate(args) => migrate::run(args).await.map_err(other),
        Command::ValueKey(command) => value_key::run(command).await.map_err(other),
        Command::TagKey(command) => tag_key::run(command).await.map_err(other),
        Command::Console(console) => {
            json = cli.options.json();
            cli.options.set_colours();
            console.run(cli.options).await
        }
        Command::Completions { shell } => completions(shell),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => fail(&failure, json),
    }
}

/// Prints a failure, and returns its exit code.
fn fail(failure: &Failure, json: bool) -> ExitCode {
    let line = if json {
        failure.json()
    } else {
        let red = AnsiColor::Red.on_default();
        format!("{red}{failure}{red:#}")
    };
    // `eprintln!` would panic if standard error is closed. This stream removes the colour unless
    // standard error shows colours.
    let _ = writeln!(anstream::stderr(), "{line}");
    failure.exit_code()
}

/// Returns the command. Only the commands that call the API show the options of the console.
fn command() -> clap::Command {
    Cli::command().mut_subcommands(|command| match command.get_name() {
        "user" => command.mut_subcommand("export", Options::hide_in),
        name if is_local(name) => Options::hide_in(command),
        _ => command,
    })
}

/// Returns whether this is the name of a command that does not call the API.
fn is_local(name: &str) -> bool {
    let console = Console::augment_subcommands(clap::Command::new(""));
    console.find_subcommand(name).is_none()
}

fn parse() -> Result<Cli, Error> {
    let mut command = command();
    let matches = command.try_get_matches_from_mut(env::args_os())?;
    let cli = Cli::from_arg_matches(&matches).map_err(|error| error.format(&mut command))?;
    let calls_api = matches!(&cli.command, Command::Console(console) if console.calls_api());
    match Options::first_given(&matches) {
        Some(option) if !calls_api => {
            let line = format!("{option} is only for commands that call the API");
            Err(command.error(ErrorKind::ArgumentConflict, line))
        }
        _ => Ok(cli),
    }
}

/// Prints an error of clap, or the help, and returns the exit code.
fn refuse(error: &Error) -> ExitCode {
    let is_help = error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand;
    if !error.use_stderr() || is_help || !wants_json() {
        error.exit();
    }
    let text = error.render().to_string().replace("\n\n  tip:", "; tip:");
    // The usage, which is for people, comes after the cause.
    let cause = ["\n\nUsage:", "\n\nFor more"]
        .iter()
        .fold(text.as_str(), |text, end| {
            text.split(end).next().unwrap_or(text)
        });
    let words: Vec<_> = cause
        .trim_start_matches("error: ")
        .split_whitespace()
        .collect();
    fail(&Failure::usage(words.join(" ")), true)
}

/// Returns whether the arguments, which clap cannot parse, ask for JSON.
fn wants_json() -> bool {
    let arguments: Vec<_> = env::args_os().collect();
    let is = |argument: &OsString, text: &str| argument.eq_ignore_ascii_case(text);
    let alone = |argument| is(argument, "--json") || is(argument, "--output=json");
    let pair = |pair: &[OsString]| is(&pair[0], "--output") && is(&pair[1], "json");
    arguments.iter().any(alone) || arguments.windows(2).any(pair)
}

fn other(line: String) -> Failure {
    Failure::new(Kind::Other, line)
}

fn completions(shell: Shell) -> Result<(), Failure> {
    // The script for bash also lists hidden options. So this function does not hide the options of
    // the console, but adds them only to the commands that allow them.
    let command = Cli::command().mut_args(|arg| arg.global(false));
    let options = command.get_arguments().filter(|arg| !arg.is_hide_set());
    let options: Vec<_> = options.cloned().collect();
    let mut command = command.mut_subcommands(|command| {
        if is_local(command.get_name()) {
            command
        } else {
            with_options(command, &options)
        }
    });
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command, "tokenry", &mut script);
    output::print(String::from_utf8_lossy(&script).trim_end())
}

/// Adds options to a command that calls the API, and to its subcommands.
fn with_options(command: clap::Command, options: &[clap::Arg]) -> clap::Command {
    if command.get_name() == "export" {
        return command;
    }
    let command = command.args(options);
    command.mut_subcommands(|below| with_options(below, options))
}

/// Removes possible secrets from a clap error: values of unexpected arguments, and text that looks
/// like a token. The user may have passed a secret as an argument.
fn without_values(mut error: Error) -> Error {
    let stray = matches!(
        error.kind(),
        ErrorKind::UnknownArgument | ErrorKind::TooManyValues
    );
    for kind in [
        ContextKind::InvalidArg,
        ContextKind::InvalidValue,
        ContextKind::InvalidSubcommand,
    ] {
        let Some(ContextValue::String(text)) = error.get(kind) else {
            continue;
        };
        // For `--password=SECRET`, the text contains the secret.
        let is_value = error.kind() == ErrorKind::TooManyValues;
        if text.contains("tk_") || is_value || (stray && !text.starts_with('-')) {
            error.remove(kind);
            error.remove(ContextKind::Suggested);
        }
    }
    error
}
