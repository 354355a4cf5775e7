//! nginx, as the cache and the file server that others put castlog beside.

use std::path::Path;

use tempfile::TempDir;
use tokio::net::TcpStream;

use crate::{Process, server, tools};

/// A running nginx with one worker.
#[derive(Debug)]
pub struct Nginx {
    process: Process,
    port: u16,
    // Held for its files, which must outlive the process.
    _folder: TempDir,
}

impl Nginx {
    /// Starts nginx; `http` is what stands in its `http` block, made of the port and a
    /// folder for its files. It logs no requests.
    ///
    /// # Errors
    /// There is no nginx, or it does not come up with this configuration.
    pub async fn start(http: impl Fn(u16, &Path) -> String) -> anyhow::Result<Self> {
        let program = tools::find("nginx")?;
        let folder = server::folder("nginx")?;
        let path = folder.path();
        let config = path.join("nginx.conf");
        let make = |port: u16| {
            let text = format!(
                "master_process off; daemon off; pid {folder}/pid; error_log stderr;\n\
                 events {{ worker_connections 8192; }}\n\
                 http {{\naccess_log off;\nclient_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;\n\
                 fastcgi_temp_path {folder}/fastcgi; uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;\n\
                 {}\n}}\n",
                http(port, path),
                folder = server::text(path)?,
            );
            std::fs::write(&config, text)?;
            Ok(Process::new(&program, path.join("log"))
                .args(["-e", "stderr", "-c"])
                .args([&config]))
        };
        let (port, process) = server::start(make, ready).await?;
        Ok(Self {
            process,
            port,
            _folder: folder,
        })
    }
}

async fn ready(port: u16, _: u32) -> bool {
    TcpStream::connect(("127.0.0.1", port)).await.is_ok()
}

server::controls!(Nginx);
