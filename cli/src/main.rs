//! The `tokenry` command.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tokenry::{
    bootstrap::{self, Bootstrap},
    serve::{self, Serve},
};

/// User tokens on your own cloud account
#[derive(Debug, Parser)]
#[command(name = "tokenry", version, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    serve: Serve,
}

#[derive(Debug, Subcommand)]
enum Command {
    Serve(Serve),
    Bootstrap(Bootstrap),
}

#[tokio::main]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    let done = match cli.command.unwrap_or(Command::Serve(cli.serve)) {
        Command::Serve(args) => serve::run(args).await,
        Command::Bootstrap(args) => bootstrap::run(args).await,
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(line) => {
            eprintln!("{line}");
            ExitCode::FAILURE
        }
    }
}
