//! What is found at servers and streams.

/// What was found at the servers.
#[derive(Debug)]
pub struct ServerFindings {
    /// Which server answers, and how it is.
    pub server: String,
    /// The stream of each feed that was asked for.
    pub streams: Vec<(String, StreamFinding)>,
}

/// How the stream of a feed is.
#[derive(Debug)]
pub enum StreamFinding {
    /// It is one of walcast's; in words.
    Ours(String),
    /// There is none yet.
    Missing,
    /// Nothing could be published there, and why.
    Unfit(String),
}
