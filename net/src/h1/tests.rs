use super::*;

fn date() -> HttpDate {
    HttpDate::new(784_111_777)
}

/// Answers every request with `method target body` and returns all that was written.
fn serve(pieces: &[&[u8]]) -> (String, Connection) {
    let mut connection = Connection::new(64);
    for piece in pieces {
        connection.recv(piece);
        while connection.poll(&date()) == Parsed::Request {
            let taken = connection.take_request().unwrap();
            let text = taken.show(0, |request| {
                format!(
                    "{} {} {}",
                    request.method,
                    request.target,
                    String::from_utf8_lossy(request.body)
                )
            });
            connection.respond(&Response::new(200, "text/plain", text), &date());
        }
    }
    (
        String::from_utf8(connection.out().to_vec()).unwrap(),
        connection,
    )
}

fn answer(body: &str) -> String {
    format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

#[test]
fn a_get_is_answered_and_the_connection_stays() {
    let (out, connection) = serve(&[b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n"]);
    assert_eq!(out, answer("GET /health "));
    assert!(!connection.is_closing());
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let one = b"GET /a HTTP/1.1\r\nHost: a\r\n\r\nPOST /b HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nxyzGET /c HTTP/1.1\r\nHost: a\r\n\r\n";
    let (out, _) = serve(&[one]);
    assert_eq!(
        out,
        answer("GET /a ") + &answer("POST /b xyz") + &answer("GET /c ")
    );
}

#[test]
fn any_split_of_the_input_gives_the_same_answers() {
    let input: &[u8] = b"POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nwiki\r\n3;x=y\r\npdi\r\n0\r\nT: v\r\n\r\n\r\nPUT /b HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n01234";
    let (whole, _) = serve(&[input]);
    assert_eq!(whole, answer("POST /a wikipdi") + &answer("PUT /b 01234"));
    for at in 0..input.len() {
        assert_eq!(
            serve(&[&input[..at], &input[at..]]).0,
            whole,
            "split at {at}"
        );
    }
    let bytes: Vec<&[u8]> = input.chunks(1).collect();
    assert_eq!(serve(&bytes).0, whole);
}

#[test]
fn connection_close_and_http_1_0_end_the_connection_after_the_answer() {
    for input in [
        &b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\nGET /late HTTP/1.1\r\n"[..],
        b"GET / HTTP/1.0\r\n\r\n",
    ] {
        let (out, connection) = serve(&[input]);
        assert!(
            out.contains("Connection: close\r\n") && !out.contains("late"),
            "{out}"
        );
        assert!(connection.is_closing());
    }
    assert!(
        !serve(&[b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"])
            .1
            .is_closing()
    );
}

#[test]
fn head_is_answered_without_a_body_but_with_its_length() {
    let (out, _) = serve(&[b"HEAD /x HTTP/1.1\r\nHost: a\r\n\r\n"]);
    assert!(out.ends_with("Content-Length: 8\r\n\r\n"), "{out}");
}

#[test]
fn what_cannot_be_framed_is_refused_and_closed() {
    let cases: [(&[u8], u16); 12] = [
        (b"GET\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        (b"GET / HTTP/3.0\r\nHost: a\r\n\r\n", 505),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n", 501),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 65\r\n\r\n", 413),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n41\r\n", 413),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: a\r\nExpect: rain\r\n\r\n", 417),
    ];
    for (input, status) in cases {
        let (out, connection) = serve(&[input]);
        assert!(
            out.starts_with(&format!("HTTP/1.1 {status} ")),
            "{:?} gave {out}",
            String::from_utf8_lossy(input)
        );
        assert!(connection.is_closing());
    }
}

#[test]
fn what_is_not_http_is_closed_in_silence() {
    let (out, connection) = serve(&[b"INVALID CONNECTION PREFACE\r\n\r\n"]);
    assert_eq!(out, "");
    assert!(connection.is_closing());
}

#[test]
fn chunks_that_sum_past_the_bound_are_refused() {
    let mut input = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    for _ in 0..9 {
        input.extend_from_slice(b"8\r\n01234567\r\n");
    }
    assert!(serve(&[&input]).0.starts_with("HTTP/1.1 413 "));
}

#[test]
fn an_endless_head_is_refused_within_its_bound() {
    let mut connection = Connection::new(64);
    connection.recv(b"GET / HTTP/1.1\r\n");
    for _ in 0..crate::limits::H1_HEAD_BYTES_MAX / 8 {
        connection.recv(b"A: bcd\r\n");
        assert_eq!(connection.poll(&date()), Parsed::Nothing);
    }
    assert!(connection.out().starts_with(b"HTTP/1.1 431 ") && connection.is_closing());
}

#[test]
fn a_second_request_waits_until_the_first_is_answered() {
    let mut connection = Connection::new(64);
    connection.recv(b"GET /a HTTP/1.1\r\nHost: a\r\n\r\nGET /b HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(connection.poll(&date()), Parsed::Request);
    assert!(connection.take_request().is_some());
    assert_eq!(connection.poll(&date()), Parsed::Nothing);
    connection.respond(&Response::new(200, "text/plain", "a"), &date());
    assert_eq!(connection.poll(&date()), Parsed::Request);
}

#[test]
fn a_waiting_body_is_asked_for() {
    let (out, _) = serve(&[
        b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n",
    ]);
    assert_eq!(out, "HTTP/1.1 100 Continue\r\n\r\n");
}

#[test]
fn a_request_that_stalls_is_told_and_an_idle_connection_just_ends() {
    let (_, mut stalled) = serve(&[b"GET / HT"]);
    assert!(stalled.is_receiving());
    stalled.close_idle(&date());
    assert!(stalled.out().starts_with(b"HTTP/1.1 408 ") && stalled.is_closing());
    let (_, mut idle) = serve(&[]);
    idle.close_idle(&date());
    assert!(idle.out().is_empty() && idle.is_closing());
}

#[test]
fn path_query_and_headers_are_found() {
    let headers = [httparse::Header {
        name: "hOst",
        value: b"h",
    }];
    let mut request = Request {
        method: "GET",
        target: "/p?a=1&b&a=2",
        headers: &headers,
        body: b"",
        tag: 0,
    };
    assert_eq!(request.path(), "/p");
    assert_eq!(request.query_values("a").collect::<Vec<_>>(), ["1", "2"]);
    assert_eq!(request.query_values("b").collect::<Vec<_>>(), [""]);
    assert_eq!(request.header("Host"), Some("h"));
    request.target = "http://h:1/p?x";
    assert_eq!(request.path(), "/p");
    request.target = "http://h:1";
    assert_eq!(request.path(), "/");
}

#[test]
fn dates_are_those_of_the_calendar() {
    for (seconds, text) in [
        (0, "Thu, 01 Jan 1970 00:00:00 GMT"),
        (951_782_400, "Tue, 29 Feb 2000 00:00:00 GMT"),
        (4_107_542_399, "Sun, 28 Feb 2100 23:59:59 GMT"),
        (4_107_542_400, "Mon, 01 Mar 2100 00:00:00 GMT"),
        (1_795_254_000, "Sat, 21 Nov 2026 09:40:00 GMT"),
    ] {
        let mut out = Vec::new();
        Response::new(200, "a", "").write(&mut out, &HttpDate::new(seconds), false, false);
        assert!(String::from_utf8(out).unwrap().contains(text), "{text}");
    }
}
