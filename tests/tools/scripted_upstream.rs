//! The tests' scripted upstream as a program of its own, for `make demo` and for trying things
//! out: `scripted-upstream [ADDRESS]` prints its base URL on the first line and serves until
//! killed. What it answers is described in `tests/it/support/persona.rs`.
#![allow(clippy::unwrap_used, dead_code)]

#[path = "../it/support/upstream.rs"]
mod upstream;

fn main() {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:0".into());
    match upstream::Upstream::listen(&address, true) {
        Ok(upstream) => {
            println!("{}", upstream.url());
            loop {
                std::thread::park();
            }
        }
        Err(error) => {
            eprintln!("scripted-upstream: cannot listen on {address}: {error}");
            std::process::exit(1);
        }
    }
}
