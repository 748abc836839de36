use super::*;
use async_compression::tokio::write::{GzipEncoder, ZlibEncoder, ZstdEncoder};
use bytes::Bytes;
use futures_util::stream;
use http::HeaderValue;
use std::convert::Infallible;

const MAX: u64 = 1000;

fn headers(list: &[(&'static str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in list {
        headers.append(*name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
    }
    headers
}

fn pieces(bytes: &[u8], size: usize) -> impl Stream<Item = Result<Bytes, Infallible>> + use<> {
    let pieces: Vec<_> = bytes.chunks(size).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
    stream::iter(pieces)
}

async fn compress(coding: &str, text: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut encoder: Box<dyn AsyncWrite + Unpin> = match coding {
        "gzip" => Box::new(GzipEncoder::new(&mut out)),
        "deflate" => Box::new(ZlibEncoder::new(&mut out)),
        "zstd" => Box::new(ZstdEncoder::new(&mut out)),
        _ => Box::new(&mut out),
    };
    encoder.write_all(text).await.unwrap();
    encoder.shutdown().await.unwrap();
    drop(encoder);
    out
}

/// The text read, or a short word for the failure.
async fn outcome(list: &[(&'static str, &str)], bytes: &[u8]) -> Result<String, String> {
    let buffers = Buffers::new();
    let list: Vec<_> =
        [("content-type", "application/json")].into_iter().chain(list.iter().copied()).collect();
    let mut seen = Vec::new();
    for size in [1, 7, 100_000] {
        let read = read(&headers(&list), pieces(bytes, size), Limits::of(MAX), &buffers, u64::MAX).await;
        seen.push(read.map(|body| body.text().to_owned()).map_err(word));
        assert_eq!(buffers.taken(), 0);
    }
    assert!(seen.iter().all(|one| *one == seen[0]), "how it is cut must not matter: {seen:?}");
    seen.remove(0)
}

fn word(failure: Failure) -> String {
    match failure {
        Failure::UnsupportedMediaType { .. } => "415".into(),
        Failure::BodyTooLarge { limit } => format!("413 {limit}"),
        Failure::BodyTimeout { after } => format!("408 {}", after.as_secs()),
        Failure::BadRequest { at: None, .. } => "400".into(),
        Failure::Overloaded => "503".into(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn bodies_say_that_they_are_json() {
    let check = async |types: &[&str], expect: Result<&str, &str>| {
        let list: Vec<_> = types.iter().map(|value| ("content-type", *value)).collect();
        let read = read(&headers(&list), pieces(b"{}", 9), Limits::of(MAX), &Buffers::new(), 9).await;
        let found = read.map(|body| body.text().to_owned()).map_err(word);
        assert_eq!(found, expect.map(str::to_owned).map_err(str::to_owned), "{types:?}");
    };
    check(&["application/json"], Ok("{}")).await;
    check(&["Application/JSON; charset=utf-8"], Ok("{}")).await;
    check(&["application/json;charset=utf-8"], Ok("{}")).await;
    check(&[], Err("415")).await;
    check(&[""], Err("415")).await;
    check(&["text/plain"], Err("415")).await;
    check(&["application/x-www-form-urlencoded"], Err("415")).await;
    check(&["multipart/form-data; boundary=application/json"], Err("415")).await;
    check(&["application/jsonp"], Err("415")).await;
    check(&["application/json, text/plain"], Err("415")).await;
    check(&["application/json", "text/plain"], Err("415")).await;
}

#[tokio::test]
async fn the_limit_holds_to_the_byte_before_and_after_decompression() {
    for coding in ["identity", "gzip", "deflate", "zstd"] {
        let check = async |length: u64, expect: Result<(), String>| {
            let text = "x".repeat(length as usize);
            let bytes = compress(coding, text.as_bytes()).await;
            let found = outcome(&[("content-encoding", coding)], &bytes).await;
            assert_eq!(found, expect.map(|()| text), "{coding} {length}");
        };
        check(0, Ok(())).await;
        check(MAX - 1, Ok(())).await;
        check(MAX, Ok(())).await;
        check(MAX + 1, Err(format!("413 {MAX}"))).await;
        check(MAX * 2_000, Err(format!("413 {MAX}"))).await; // a bomb: 2 MB of nothing
    }
    // What does not compress is longer compressed than plain: the limit is on both.
    let mut state = 1u32;
    let noise: String = (0..MAX)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            char::from(33 + (state >> 24) as u8 % 94)
        })
        .collect();
    let stored = store(noise.as_bytes());
    assert_eq!(outcome(&[("content-encoding", "gzip")], &stored).await, Err(format!("413 {MAX}")));
}

/// A gzip file of one stored block, longer than what it holds.
fn store(text: &[u8]) -> Vec<u8> {
    let length = text.len() as u16;
    let mut out = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255, 1];
    out.extend(length.to_le_bytes());
    out.extend((!length).to_le_bytes());
    out.extend(text);
    out.extend([0; 8]); // never reached: the limit comes first
    out
}

#[tokio::test]
async fn an_announced_length_is_refused_unread() {
    let check = async |length: &str, expect: Result<&str, String>| {
        let list = [("content-type", "application/json"), ("content-length", length)];
        let never = stream::pending::<Result<Bytes, Infallible>>();
        let body: std::pin::Pin<Box<dyn Stream<Item = _>>> =
            if expect.is_ok() { Box::pin(pieces(b"{}", 9)) } else { Box::pin(never) };
        let read = read(&headers(&list), body, Limits::of(MAX), &Buffers::new(), MAX).await;
        assert_eq!(read.map(|body| body.text().to_owned()).map_err(word), expect.map(str::to_owned));
    };
    check("1000", Ok("{}")).await;
    check("1001", Err("413 1000".into())).await;
    check("99999999999999999999", Ok("{}")).await; // hyper has refused what is no number
}

#[tokio::test]
async fn codings_are_one_of_ours() {
    let text = r#"{"a":"ü"}"#;
    let check = async |coding: &str, sent_as: &str, expect: Result<&str, &str>| {
        let bytes = compress(sent_as, text.as_bytes()).await;
        let found = outcome(&[("content-encoding", coding)], &bytes).await;
        assert_eq!(found, expect.map(str::to_owned).map_err(str::to_owned), "{coding} of {sent_as}");
    };
    check("", "identity", Ok(text)).await;
    check("identity", "identity", Ok(text)).await;
    check("gzip", "gzip", Ok(text)).await;
    check("GZIP", "gzip", Ok(text)).await;
    check("x-gzip", "gzip", Ok(text)).await;
    check("deflate", "deflate", Ok(text)).await;
    check("zstd", "zstd", Ok(text)).await;
    for coding in ["br", "compress", "gzip, gzip", "gzip, identity", "identity, gzip", "*", "gzip;q=1"] {
        check(coding, "gzip", Err("415")).await;
    }
    for (coding, sent_as) in [
        ("gzip", "identity"),
        ("deflate", "identity"),
        ("zstd", "identity"),
        ("gzip", "zstd"),
        ("deflate", "gzip"),
    ] {
        check(coding, sent_as, Err("400")).await;
    }
    let twice = [("content-encoding", "gzip"), ("content-encoding", "gzip")];
    assert_eq!(outcome(&twice, b"").await, Err("415".into()));
}

#[tokio::test]
async fn compressed_data_is_whole_and_alone() {
    for coding in ["gzip", "deflate", "zstd"] {
        let whole = compress(coding, "0123456789".repeat(50).as_bytes()).await;
        let list = [("content-encoding", coding)];
        assert!(outcome(&list, &whole).await.is_ok());
        for cut in 1..whole.len() {
            let found = outcome(&list, &whole[..cut]).await;
            assert_eq!(found, Err("400".into()), "{coding} cut at {cut} of {}", whole.len());
        }
        let mut longer = whole.clone();
        longer.extend(b"garbage");
        assert_eq!(outcome(&list, &longer).await, Err("400".into()), "{coding} with something after it");
    }
    let mut wrong_sum = compress("gzip", b"{}").await;
    let at = wrong_sum.len() - 8;
    wrong_sum[at] ^= 1;
    assert_eq!(outcome(&[("content-encoding", "gzip")], &wrong_sum).await, Err("400".into()));
}

#[tokio::test]
async fn a_zstd_window_is_bounded() {
    // A frame header that asks for a window of 2^26 bytes, then an empty last block.
    let wide = [0x28, 0xb5, 0x2f, 0xfd, 0x00, (26 - 10) << 3, 0x01, 0x00, 0x00];
    let narrow = [0x28, 0xb5, 0x2f, 0xfd, 0x00, (23 - 10) << 3, 0x01, 0x00, 0x00];
    assert_eq!(outcome(&[("content-encoding", "zstd")], &wide).await, Err("400".into()));
    assert_eq!(outcome(&[("content-encoding", "zstd")], &narrow).await, Ok(String::new()));
}

#[tokio::test]
async fn text_is_utf8() {
    let check = async |bytes: &[u8], expect: Result<&str, &str>| {
        let expect = expect.map(str::to_owned).map_err(str::to_owned);
        assert_eq!(outcome(&[], bytes).await, expect, "{bytes:?}");
    };
    check("\"ü\u{2028}\0\"".as_bytes(), Ok("\"ü\u{2028}\0\"")).await;
    check(b"\"\xff\"", Err("400")).await;
    check(b"\"\xc3", Err("400")).await;
    check(b"\xed\xa0\x80", Err("400")).await;
}

#[tokio::test]
async fn a_broken_transfer_is_a_bad_request() {
    let body = stream::iter([Ok(Bytes::from_static(b"{}")), Err("reset")]);
    let list = headers(&[("content-type", "application/json")]);
    let read = read(&list, body, Limits::of(MAX), &Buffers::new(), MAX).await;
    assert_eq!(read.map(|_| ()).map_err(word), Err("400".into()));
}

#[tokio::test(start_paused = true)]
async fn slow_bodies_end() {
    let check = async |pause: u64, count: u64, expect: Result<usize, &str>| {
        let body = stream::unfold(0, move |sent| async move {
            tokio::time::sleep(Duration::from_secs(pause)).await;
            (sent < count).then(|| (Ok::<_, Infallible>(Bytes::from_static(b" ")), sent + 1))
        });
        let limits = Limits { bytes: MAX, idle: Duration::from_secs(30), total: Duration::from_secs(100) };
        let list = headers(&[("content-type", "application/json")]);
        let read = read(&list, body, limits, &Buffers::new(), MAX).await;
        let found = read.map(|body| body.text().len()).map_err(word);
        assert_eq!(found, expect.map_err(str::to_owned), "{count} pieces, {pause} s apart");
    };
    check(29, 2, Ok(2)).await;
    check(31, 2, Err("408 30")).await;
    check(20, 4, Ok(4)).await;
    check(20, 6, Err("408 100")).await;
}

#[tokio::test]
async fn all_bodies_share_one_budget() {
    let buffers = Buffers::new();
    let list = headers(&[("content-type", "application/json")]);
    let body = async |length: usize| {
        read(&list, pieces(&vec![b' '; length], 10), Limits::of(MAX), &buffers, 100).await.map_err(word)
    };
    let first = body(60).await.unwrap();
    assert_eq!(buffers.taken(), 60);
    assert_eq!(body(41).await.map(|_| ()), Err("503".into()));
    assert_eq!(buffers.taken(), 60, "a refused body gives back what it had");
    let second = body(40).await.unwrap();
    assert_eq!(buffers.taken(), 100);
    assert_eq!(body(1).await.map(|_| ()), Err("503".into()));
    drop(first);
    let third = body(60).await.unwrap();
    drop((second, third));
    assert_eq!(buffers.taken(), 0);
}

#[tokio::test]
async fn what_was_made_of_a_body_counts_in_its_place() {
    let buffers = Buffers::new();
    for made in [3, 0, 400] {
        let mut claim = buffers.claim(100);
        claim.grow(90).unwrap();
        let held = Buffered { text: "x".repeat(90), claim }.becomes(made);
        assert_eq!(buffers.taken(), made);
        assert_eq!(buffers.claim(100).grow(98), if made < 3 { Ok(()) } else { Err(Failure::Overloaded) });
        drop(held);
        assert_eq!(buffers.taken(), 0);
    }
}

#[test]
fn what_is_kept_for_later_goes_before_a_body_is_refused() {
    let kept = Arc::new(std::sync::Mutex::new(Vec::new()));
    let given = Arc::clone(&kept);
    let buffers = Buffers::before(move || given.lock().unwrap().pop().is_some());
    for _ in 0..3 {
        let mut claim = buffers.claim(100);
        claim.grow(30).unwrap();
        kept.lock().unwrap().push(claim);
    }
    let mut body = buffers.claim(100);
    for (by, left, taken) in [(10, 3, 100), (1, 2, 71), (50, 1, 91), (39, 0, 100)] {
        assert_eq!(body.grow(by), Ok(()));
        assert_eq!((kept.lock().unwrap().len(), buffers.taken()), (left, taken));
    }
    assert_eq!(body.grow(1), Err(Failure::Overloaded));
}

#[tokio::test]
async fn large_bodies_are_read_in_turn() {
    let buffers = Buffers::new();
    let first = buffers.turn(READ_AT_ONCE - UNIT).await;
    let small = buffers.turn(UNIT).await;
    let mut waits = std::pin::pin!(buffers.turn(1));
    assert!(futures_util::poll!(&mut waits).is_pending());
    drop(small);
    let second = waits.await;
    // One that is larger than all of it is read alone.
    let mut waits = std::pin::pin!(buffers.turn(usize::MAX));
    assert!(futures_util::poll!(&mut waits).is_pending());
    drop(first);
    assert!(futures_util::poll!(&mut waits).is_pending());
    drop(second);
    assert!(waits.await.is_some());
}

#[tokio::test]
async fn what_was_announced_has_room_when_it_begins_to_come() {
    let text = "x".repeat(1_000_000);
    for (list, expect) in [(vec![("content-length", "1000000")], true), (vec![], true)] {
        let list: Vec<_> = [("content-type", "application/json")].into_iter().chain(list).collect();
        let (list, text) = (headers(&list), pieces(text.as_bytes(), 10_000));
        let body = read(&list, text, Limits::of(1_000_000), &Buffers::new(), u64::MAX).await.unwrap();
        assert_eq!((body.text().len(), body.text.capacity() == body.text.len()), (1_000_000, expect));
    }
}

#[tokio::test]
async fn gzip_may_have_several_members() {
    let (one, two) = (compress("gzip", br#"{"a":"#).await, compress("gzip", b"1}").await);
    let gzip = [("content-encoding", "gzip")];
    let empty = compress("gzip", b"").await;
    for (members, expect) in [
        (vec![&one[..], &two], Ok("{\"a\":1}")),
        (vec![&empty, &one, &empty, &two, &empty], Ok("{\"a\":1}")),
        (vec![&one, &two[..two.len() - 1]], Err("400")),
        (vec![&one, &two[..5]], Err("400")),
        (vec![&one, b"junk that is no member"], Err("400")),
    ] {
        let found = outcome(&gzip, &members.concat()).await;
        assert_eq!(found, expect.map(str::to_owned).map_err(str::to_owned), "{members:?}");
    }
    let half = compress("gzip", &[b'x'; MAX as usize / 2]).await;
    assert!(outcome(&gzip, &[&half[..], &half].concat()).await.is_ok());
    let more = compress("gzip", b"x").await;
    assert_eq!(outcome(&gzip, &[&half[..], &half, &more].concat()).await, Err(format!("413 {MAX}")));
}

#[tokio::test]
async fn one_byte_order_mark_before_the_text_is_ignored() {
    for (text, expect) in [
        ("\u{feff}{}", "{}"),
        ("\u{feff}", ""),
        ("\u{feff}\u{feff}{}", "\u{feff}{}"),
        ("{\"a\":\"\u{feff}\"}", "{\"a\":\"\u{feff}\"}"),
    ] {
        for coding in ["identity", "gzip", "deflate", "zstd"] {
            let bytes = compress(coding, text.as_bytes()).await;
            assert_eq!(outcome(&[("content-encoding", coding)], &bytes).await.as_deref(), Ok(expect));
        }
    }
}
