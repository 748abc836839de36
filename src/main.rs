//! The `codex-api-proxy` program; everything is in the library.

fn main() -> std::process::ExitCode {
    codex_api_proxy::cli::run(std::env::args_os())
}
