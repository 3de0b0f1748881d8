//! Behind a real nginx that keeps its connections to the server. `cargo xtask test` provides it, as `NGINX_BIN`.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use conformance::harness::{Harness, TestServer, assert_success, event, good_token};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

const DELIVERIES: usize = 300;

/// Two clients without a token upload beside each delivery; no other client's delivery is lost by that.
pub(crate) async fn rejected_uploads_cost_no_delivery(harness: Harness) {
    let server = harness.start().await;
    assert_success(&server.deliver(&event("directly")).await);
    let Some(nginx) = Nginx::start(&harness, &server) else {
        return; // No nginx here.
    };
    let upload = server.delivery_with("letmein", &"x".repeat(1_000_000));
    let (mut handled, mut rejections) = (0, 0);
    for number in 0..DELIVERIES {
        // nginx takes the connection that was used last: one of those that an upload was rejected on, if it kept it.
        let (first, second) =
            tokio::join!(exchange(&nginx.socket, &upload), exchange(&nginx.socket, &upload));
        rejections += [first, second].iter().filter(|text| text.starts_with("HTTP/1.1 401 ")).count();
        let headers = [("x-smartshape-token", good_token()), ("connection", "close")];
        let delivery = server.request("POST", &headers, &event(&number.to_string()));
        handled += usize::from(exchange(&nginx.socket, &delivery).await.starts_with("HTTP/1.1 200 "));
    }
    assert_eq!(handled, DELIVERIES);
    assert!(rejections > DELIVERIES, "{rejections} of {} uploads were rejected", 2 * DELIVERIES);
}

/// What comes back until the other side closes, at the latest after the first response.
async fn exchange(socket: &Path, request: &str) -> String {
    let (mut reader, mut writer) = UnixStream::connect(socket).await.unwrap().into_split();
    let mut response = vec![0; 16 * 1024];
    let sending = writer.write_all(request.as_bytes());
    let reading = reader.read(&mut response);
    let (_, length) = tokio::join!(sending, reading);
    String::from_utf8_lossy(&response[..length.unwrap_or(0)]).into_owned()
}

/// A running nginx, with a folder of its own; both go with it.
struct Nginx {
    process: Child,
    folder: PathBuf,
    socket: PathBuf,
}

impl Nginx {
    fn start(harness: &Harness, server: &TestServer) -> Option<Self> {
        let folder = format!("conformance-nginx-{}-{:?}", std::process::id(), harness.target);
        let folder = std::env::temp_dir().join(folder);
        std::fs::create_dir_all(&folder).unwrap();
        let socket = folder.join("socket");
        let settings = format!(
            "daemon off; master_process off; pid pid; error_log stderr crit; events {{}}
            http {{
                access_log off;
                client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi;
                uwsgi_temp_path uwsgi; scgi_temp_path scgi;
                client_max_body_size 50m;
                upstream receiver {{ server {}; keepalive 16; }}
                server {{
                    listen unix:{};
                    location / {{
                        proxy_pass http://receiver;
                        proxy_http_version 1.1;
                        proxy_set_header Connection \"\";
                        proxy_next_upstream off;
                    }}
                }}
            }}",
            server.address,
            socket.display()
        );
        std::fs::write(folder.join("settings"), settings).unwrap();
        let program = std::env::var_os("NGINX_BIN").unwrap_or_else(|| "nginx".into());
        let mut command = Command::new(program);
        command.arg("-p").arg(&folder).arg("-c").arg(folder.join("settings")).args(["-e", "stderr"]);
        let process = match command.stdin(Stdio::null()).spawn() {
            Ok(process) => process,
            Err(error) if error.kind() == ErrorKind::NotFound => return None,
            Err(error) => panic!("nginx does not run: {error}"),
        };
        let mut nginx = Self { process, folder, socket };
        while std::os::unix::net::UnixStream::connect(&nginx.socket).is_err() {
            assert!(nginx.process.try_wait().unwrap().is_none(), "nginx has ended");
            std::thread::yield_now();
        }
        Some(nginx)
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}
