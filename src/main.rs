//! The `codex-api-proxy` program; everything is in the library.

// Buffers are made on one thread and freed on another all the time, which the C library's allocator
// does under locks: with it a third more CPU goes into each request.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    codex_api_proxy::run(std::env::args_os())
}
