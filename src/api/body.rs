//! Reading a request's body: type, encoding, size, time, and UTF-8.
