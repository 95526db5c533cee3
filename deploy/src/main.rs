//! The `meridian` program: reads its arguments, runs one command, gives an exit code.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    deploy::run(std::env::args_os())
}
