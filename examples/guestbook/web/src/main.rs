//! A guestbook: the web tier of the sample application. It keeps its entries in redis, which it finds by its
//! Service's name, and says which pod has answered. Only the standard library, one thread a connection.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

const TIMEOUT: Duration = Duration::from_secs(2);
/// Entries shown and kept.
const KEPT: usize = 50;
const LONGEST_ENTRY: usize = 500;

fn main() {
    let redis = std::env::var("REDIS").unwrap_or_else(|_| "redis:6379".to_owned());
    let pod = std::env::var("HOSTNAME").unwrap_or_default();
    let listener = TcpListener::bind("0.0.0.0:8080").expect("port 8080 is free in a container");
    println!("guestbook on port 8080, redis at {redis}");
    for stream in listener.incoming().flatten() {
        let (redis, pod) = (redis.clone(), pod.clone());
        std::thread::spawn(move || {
            if let Err(error) = serve(stream, &redis, &pod) {
                eprintln!("request: {error}");
            }
        });
    }
}

fn serve(stream: TcpStream, redis: &str, pod: &str) -> std::io::Result<()> {
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    let mut reader = BufReader::new(stream.try_clone()?.take(16 * 1024));
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let mut words = line.split_whitespace();
    let (method, path) =
        (words.next().unwrap_or_default().to_owned(), words.next().unwrap_or_default().to_owned());
    let mut length = 0;
    loop {
        let mut header = String::new();
        if reader.read_line(&mut header)? == 0 || header.trim().is_empty() {
            break;
        }
        if let Some((name, value)) = header.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse().unwrap_or(0);
        }
    }
    let mut body = vec![0; length.min(4 * LONGEST_ENTRY)];
    reader.read_exact(&mut body)?;

    let answer = match (method.as_str(), path.as_str()) {
        ("GET", "/healthz") => {
            Redis::connect(redis).and_then(|mut redis| redis.call(&["PING"])).map(|_| "ok\n".into())
        }
        ("GET", "/") => page(redis, pod),
        ("POST", "/") => Redis::connect(redis).and_then(|mut redis| {
            let entry = form_value(&String::from_utf8_lossy(&body), "entry");
            if !entry.is_empty() {
                redis.call(&["LPUSH", "entries", &entry])?;
                redis.call(&["LTRIM", "entries", "0", &(KEPT - 1).to_string()])?;
            }
            page(&redis.address, pod)
        }),
        _ => return respond(&stream, "404 Not Found", "nothing here\n"),
    };
    match answer {
        Ok(text) => respond(&stream, "200 OK", &text),
        Err(error) => respond(&stream, "503 Service Unavailable", &format!("redis at {redis}: {error}\n")),
    }
}

fn page(redis: &str, pod: &str) -> std::io::Result<String> {
    let mut redis = Redis::connect(redis)?;
    let visits = redis.call(&["INCR", "visits"])?.concat();
    let entries = redis.call(&["LRANGE", "entries", "0", &(KEPT - 1).to_string()])?;
    let list: String = entries.iter().map(|entry| format!("<li>{}</li>\n", escape(entry))).collect();
    Ok(format!(
        "<!doctype html><title>Guestbook</title>\n<h1>Guestbook</h1>\n<p>Visit {visits}, answered by {}.</p>\n\
         <form method=post><input name=entry maxlength={LONGEST_ENTRY}><button>Sign</button></form>\n<ul>\n{list}</ul>\n",
        escape(pod)
    ))
}

fn respond(mut stream: &TcpStream, status: &str, text: &str) -> std::io::Result<()> {
    let kind = if text.starts_with('<') { "text/html; charset=utf-8" } else { "text/plain; charset=utf-8" };
    write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{text}",
        text.len()
    )
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// One value of an `application/x-www-form-urlencoded` body.
fn form_value(body: &str, name: &str) -> String {
    let found = body.split('&').find_map(|pair| pair.split_once('=').filter(|(key, _)| *key == name));
    let mut out = Vec::new();
    let mut bytes = found.map_or("", |(_, value)| value).bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'+' => out.push(b' '),
            b'%' => {
                let digits = [bytes.next().unwrap_or(b'0'), bytes.next().unwrap_or(b'0')];
                let text = String::from_utf8_lossy(&digits).into_owned();
                out.push(u8::from_str_radix(&text, 16).unwrap_or(b'?'));
            }
            other => out.push(other),
        }
    }
    String::from_utf8_lossy(&out).chars().take(LONGEST_ENTRY).collect()
}

/// A connection that speaks as much of redis' protocol as is needed here.
struct Redis {
    address: String,
    stream: BufReader<TcpStream>,
}

impl Redis {
    fn connect(address: &str) -> std::io::Result<Redis> {
        let stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        stream.set_write_timeout(Some(TIMEOUT))?;
        Ok(Redis { address: address.to_owned(), stream: BufReader::new(stream) })
    }

    /// Sends a command and gives the strings of its answer.
    fn call(&mut self, words: &[&str]) -> std::io::Result<Vec<String>> {
        let mut request = format!("*{}\r\n", words.len());
        for word in words {
            request.push_str(&format!("${}\r\n{word}\r\n", word.len()));
        }
        self.stream.get_mut().write_all(request.as_bytes())?;
        let line = self.line()?;
        match line.split_at_checked(1) {
            Some(("*", count)) => {
                let mut all = Vec::new();
                for _ in 0..count.parse().unwrap_or(0usize).min(KEPT) {
                    let header = self.line()?;
                    all.push(self.bulk(&header)?);
                }
                Ok(all)
            }
            Some(("-", error)) => Err(std::io::Error::other(error.to_owned())),
            Some(("$", _)) => Ok(vec![self.bulk(&line)?]),
            Some((_, simple)) => Ok(vec![simple.to_owned()]),
            None => Err(std::io::Error::other("no answer")),
        }
    }

    fn line(&mut self) -> std::io::Result<String> {
        let mut line = String::new();
        self.stream.read_line(&mut line)?;
        Ok(line.trim_end().to_owned())
    }

    fn bulk(&mut self, header: &str) -> std::io::Result<String> {
        let length: usize = header.trim_start_matches('$').parse().unwrap_or(0);
        let mut bytes = vec![0; length.min(1 << 20) + 2];
        self.stream.read_exact(&mut bytes)?;
        bytes.truncate(bytes.len() - 2);
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}
