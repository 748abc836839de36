//! Lines of bytes from a pipe, with a limit on how long one may be.
//!
//! Splits on `\n` only: U+2028 and lone `\r` are text inside JSON strings.

use std::io;

use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};

/// The longest line either engine accepts, in bytes.
pub const LONGEST: usize = 32 << 20;

/// A buffer that grew for one long line is given back above this size.
const KEPT: usize = 256 << 10;

/// Reads lines; the buffer of one line is reused for the next.
#[derive(Debug)]
pub struct Lines<R> {
    reader: BufReader<R>,
    line: Vec<u8>,
    limit: usize,
}

impl<R: AsyncRead + Unpin> Lines<R> {
    /// Reads from `reader`, accepting lines of up to `limit` bytes.
    pub fn new(reader: R, limit: usize) -> Lines<R> {
        Lines { reader: BufReader::with_capacity(16 << 10, reader), line: Vec::new(), limit }
    }

    /// The next line without its end, or `None` at the end of the input. A last line without
    /// `\n` counts.
    ///
    /// Cancel-safe: what was read of a line stays in the buffer, and the next call goes on.
    ///
    /// # Errors
    /// The pipe's, or `InvalidData` for a line over the limit (nothing after it can be trusted).
    pub async fn next(&mut self) -> io::Result<Option<&[u8]>> {
        if self.line.last() == Some(&b'\n') {
            self.line.clear();
            if self.line.capacity() > KEPT {
                self.line = Vec::new();
            }
        }
        loop {
            let available = self.reader.fill_buf().await?;
            if available.is_empty() {
                return Ok(if self.line.is_empty() { None } else { Some(self.take_last()) });
            }
            let end = available.iter().position(|&byte| byte == b'\n');
            let taken = end.map_or(available.len(), |index| index + 1);
            if self.line.len() + taken - usize::from(end.is_some()) > self.limit {
                let limit = self.limit;
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    format!("a line is longer than {limit} bytes"),
                ));
            }
            self.line.extend_from_slice(&available[..taken]);
            self.reader.consume(taken);
            if end.is_some() {
                return Ok(Some(&self.line[..self.line.len() - 1]));
            }
        }
    }

    /// The unfinished last line. A `\n` is added so that the next call starts afresh.
    fn take_last(&mut self) -> &[u8] {
        self.line.push(b'\n');
        &self.line[..self.line.len() - 1]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use tokio::io::AsyncWriteExt;

    async fn read_all(mut lines: Lines<impl AsyncRead + Unpin>) -> io::Result<Vec<Vec<u8>>> {
        let mut all = Vec::new();
        while let Some(line) = lines.next().await? {
            all.push(line.to_vec());
        }
        Ok(all)
    }

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
    }

    proptest! {
        #[test]
        fn any_chunking_gives_the_same_lines(text in "[a\n\u{2028}\r]{0,40}", cuts in prop::collection::vec(0usize..60, 0..5)) {
            let bytes = text.clone().into_bytes();
            let mut expected: Vec<Vec<u8>> = bytes.split(|&byte| byte == b'\n').map(<[u8]>::to_vec).collect();
            if expected.last().is_some_and(Vec::is_empty) {
                expected.pop();
            }
            let got = block_on(async move {
                let (mut write, read) = tokio::io::duplex(7);
                let task = tokio::spawn(read_all(Lines::new(read, 1000)));
                let mut rest = bytes.as_slice();
                for cut in cuts {
                    let (now, later) = rest.split_at(cut.min(rest.len()));
                    write.write_all(now).await.unwrap();
                    rest = later;
                }
                write.write_all(rest).await.unwrap();
                drop(write);
                task.await.unwrap().unwrap()
            });
            prop_assert_eq!(got, expected);
        }
    }

    #[test]
    fn the_limit_holds_at_its_edge() {
        let read = |text: &'static str| block_on(read_all(Lines::new(text.as_bytes(), 4)));
        assert_eq!(read("1234\n12\n").unwrap(), [b"1234".to_vec(), b"12".to_vec()]);
        assert_eq!(read("1234").unwrap(), [b"1234".to_vec()]);
        assert_eq!(read("12345\n").unwrap_err().kind(), io::ErrorKind::InvalidData);
        assert_eq!(read("12345").unwrap_err().kind(), io::ErrorKind::InvalidData);
    }
}
