//! The signals that the server knows.

use tokio::signal::unix::{Signal, SignalKind, signal};

/// From its making on, these signals no longer end the process.
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

/// What a signal asks for.
pub enum Instruction {
    /// SIGTERM, SIGINT.
    Stop,
    /// SIGHUP.
    Reload,
}

impl Signals {
    /// Must run inside the runtime.
    pub fn new() -> std::io::Result<Signals> {
        Ok(Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// Waits for the next one.
    pub async fn next(&mut self) -> Instruction {
        tokio::select! {
            _ = self.terminate.recv() => Instruction::Stop,
            _ = self.interrupt.recv() => Instruction::Stop,
            _ = self.hangup.recv() => Instruction::Reload,
        }
    }

    /// Waits to be told to stop; reloading is over by then.
    pub async fn stop(&mut self) {
        while let Instruction::Reload = self.next().await {}
    }
}
