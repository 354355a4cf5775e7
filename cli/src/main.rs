//! The castlog binary: every service, the platform in one command, and the
//! tools that look at the log. This file is wiring; each command has its module.

mod apply;
mod args;
mod config;
mod dead_letter;
mod decode;
mod progress;
mod rebuild;
mod run;
mod status;
mod table;
mod tail;
mod up;
mod users;
mod verify;

use std::process::ExitCode;

use clap::Parser as _;

use crate::args::{Cli, Command};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    spare_huge_pages();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Nothing is left to tell when the terminal is gone.
            error.print().ok();
            return if error.use_stderr() { usage() } else { ExitCode::SUCCESS };
        }
    };
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("castlog: cannot start: {error}");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(dispatch(cli)) {
        Ok(code) => code,
        Err(error) if error.is::<castlog_service::ConfigError>() => {
            eprintln!("castlog: the configuration cannot be used:\n{error}");
            usage()
        }
        Err(error) => {
            eprintln!("castlog: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Keeps the kernel from backing the process with huge pages. What the allocator gives
/// back between small pieces would be filled up with zeroes again, and be resident: a
/// pipeline whose encoders drop and come back would grow and grow.
fn spare_huge_pages() {
    // A kernel that knows of none needs no word.
    #[cfg(target_os = "linux")]
    nix::sys::prctl::set_thp_disable(true).ok();
}

fn usage() -> ExitCode {
    ExitCode::from(u8::try_from(castlog_service::EXIT_USAGE).unwrap_or(1))
}

async fn dispatch(cli: Cli) -> anyhow::Result<ExitCode> {
    let global = cli.global;
    match cli.command {
        Command::Run(args) => run::run(&global, &args).await,
        Command::Up => up::up(&global).await,
        Command::Reap => up::reap(&global).await,
        Command::Down(args) => up::down(&global, &args).await,
        Command::Apply(args) => apply::apply(&global, &args).await,
        Command::Users(args) => Ok(users::users(&args)),
        Command::Decode(args) => Ok(decode::decode(&args)),
        Command::Tail(args) => tail::tail(&global, &args).await,
        Command::Status(args) => status::status(&global, &args).await,
        Command::DeadLetter(command) => dead_letter::dead_letter(&global, &command).await,
        Command::Rebuild(args) => rebuild::rebuild(&global, &args).await,
        Command::Verify(args) => verify::verify(&global, &args).await,
    }
}
