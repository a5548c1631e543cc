//! Where a publisher stands, said every few seconds to whoever listens: edges learn by it that they are behind, and
//! publishers that there is another one.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::StreamExt as _;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;

use super::broker::Connection;
use crate::hub::Feed;
use crate::model::position::{Cursor, Epoch};

/// How often it is said.
pub(crate) const EVERY: Duration = Duration::from_secs(5);
/// After so long whoever else publishes would have been heard.
pub(super) const LISTEN: Duration = Duration::from_secs(6);

/// One of those who publish. The older one goes on where there are two.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Publisher {
    /// When it was started, in milliseconds since 1970.
    pub(crate) started: u64,
    /// Differs from process to process.
    pub(crate) id: String,
    /// The machine's name, for people.
    pub(crate) host: String,
}

impl Publisher {
    /// This process.
    pub(super) fn this() -> Publisher {
        use std::hash::{BuildHasher as _, RandomState};
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let host = rustix::system::uname();
        Publisher {
            // A clock before 1970 makes it the oldest, which is as good as any order.
            started: since.unwrap_or_default().as_millis() as u64,
            id: format!("{:016x}", RandomState::new().hash_one(std::process::id())),
            host: host.nodename().to_string_lossy().into_owned(),
        }
    }
}

/// What is said. Fields that a version does not know are passed over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Standing {
    pub(crate) publisher: Publisher,
    pub(crate) epoch: String,
    /// The highest id given in this history.
    pub(crate) head: i64,
    /// Where the stream ends; `None`: that is not known, or nothing of this history is in it.
    pub(crate) published: Option<i64>,
    /// Rows up to here are in the stream, or not in the table: the newest may be deleted. Those above it may be on their way.
    #[serde(default)]
    pub(crate) complete: Option<i64>,
    /// It is a feed of changes.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) changes: bool,
}

/// What a stream has of a history.
#[derive(Debug, Clone)]
struct InStream {
    epoch: Epoch,
    last: Cursor,
    complete: Cursor,
}

/// Who else was heard.
#[derive(Debug, Default)]
struct Others {
    /// The oldest of those in whose history the stream is.
    holder: Option<Publisher>,
    /// The oldest of all.
    any: Option<Publisher>,
}

impl Others {
    /// Returns whether this was news.
    fn hear(&mut self, standing: Standing) -> bool {
        let Standing {
            publisher,
            published,
            ..
        } = standing;
        let holds = published.is_some() && keep_older(&mut self.holder, &publisher);
        keep_older(&mut self.any, &publisher) || holds
    }
}

fn keep_older(kept: &mut Option<Publisher>, other: &Publisher) -> bool {
    let older = kept.as_ref().is_none_or(|kept| other < kept);
    if older {
        *kept = Some(other.clone());
    }
    older
}

/// Says where a feed stands, and listens for others who do, as long as it lives.
pub(super) struct Herald {
    published: Arc<Mutex<Option<InStream>>>,
    /// Has it spoken at once.
    speak: Arc<Notify>,
    others: watch::Receiver<Others>,
    this: Publisher,
    task: JoinHandle<()>,
}

impl Drop for Herald {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Herald {
    /// Begins to speak and to listen on `subject`.
    pub(super) async fn start(
        connection: &Connection,
        subject: String,
        feed: Arc<Feed>,
        this: Publisher,
    ) -> Result<Herald, String> {
        let heard = connection.client.subscribe(subject.clone()).await;
        let mut heard = heard.map_err(|error| error.to_string())?;
        let published = Arc::<Mutex<Option<InStream>>>::default();
        let (tell, others) = watch::channel(Others::default());
        let speak = Arc::new(Notify::new());
        let called = Arc::clone(&speak);
        let (client, says, own) = (
            connection.client.clone(),
            Arc::clone(&published),
            this.clone(),
        );
        let task = tokio::spawn(async move {
            let mut ticks = tokio::time::interval(EVERY);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                let says_now = async {
                    tokio::select! {
                        _ = ticks.tick() => {}
                        () = called.notified() => {}
                    }
                };
                tokio::select! {
                    () = says_now => {
                        let standing = standing(&feed, &own, says.lock().clone());
                        // What can't be said now is said again; the connection's own trouble is told elsewhere.
                        let _ = client.publish(subject.clone(), standing.into()).await;
                    }
                    message = heard.next() => match message {
                        Some(message) => hear(&message.payload, &own, &tell),
                        None => return,
                    },
                }
            }
        });
        Ok(Herald {
            published,
            speak,
            others,
            this,
            task,
        })
    }

    /// The stream ends with `last`, and no row up to `complete` is to follow.
    pub(super) fn published(&self, epoch: &Epoch, last: Cursor, complete: Cursor) {
        *self.published.lock() = Some(InStream {
            epoch: epoch.clone(),
            last,
            complete,
        });
    }

    /// Says where it stands now, not only when it is due.
    pub(super) fn speak(&self) {
        self.speak.notify_one();
    }

    /// For who publishes: resolves when somebody is heard who publishes the same, and was there first; never otherwise. A
    /// younger one hears of this one, and stops.
    pub(super) async fn older_holder(&self) -> Publisher {
        self.heard(|others| others.holder.as_ref().filter(|holder| **holder < self.this))
            .await
    }

    /// For who is about to replace what a stream holds: resolves when somebody is heard whose it is, or who is about to do
    /// the same and was there first; never otherwise.
    pub(super) async fn other_claim(&self) -> Publisher {
        self.heard(|others| {
            let older = others.any.as_ref().filter(|other| **other < self.this);
            others.holder.as_ref().or(older)
        })
        .await
    }

    async fn heard(&self, who: impl Fn(&Others) -> Option<&Publisher>) -> Publisher {
        let mut others = self.others.clone();
        if let Ok(others) = others.wait_for(|others| who(others).is_some()).await
            && let Some(other) = who(&others)
        {
            return other.clone();
        }
        // Nobody can be heard any more.
        std::future::pending().await
    }
}

fn standing(feed: &Feed, this: &Publisher, published: Option<InStream>) -> Vec<u8> {
    let now = feed.standing();
    let published = published.filter(|stream| stream.epoch == now.epoch);
    let schema = feed.schema();
    let standing = Standing {
        publisher: this.clone(),
        head: now.head.0,
        published: published.as_ref().map(|stream| stream.last.0),
        complete: published.map(|stream| stream.complete.0),
        changes: schema.is_some_and(|schema| schema.changes.is_some()),
        epoch: now.epoch.0.to_string(),
    };
    // Plain data always serialises.
    serde_json::to_vec(&standing).unwrap_or_default()
}

fn hear(said: &[u8], this: &Publisher, tell: &watch::Sender<Others>) {
    let Ok(standing) = serde_json::from_slice::<Standing>(said) else {
        return;
    };
    if standing.publisher.id != this.id {
        tell.send_if_modified(|others| others.hear(standing));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn standing(started: u64, published: Option<i64>) -> Standing {
        Standing {
            publisher: Publisher {
                started,
                id: started.to_string(),
                host: "db".to_owned(),
            },
            epoch: "e1".to_owned(),
            head: 3,
            published,
            complete: published,
            changes: false,
        }
    }

    #[test]
    fn the_oldest_is_remembered_and_the_oldest_who_publishes() {
        let mut others = Others::default();
        let started = |other: &Option<Publisher>| other.as_ref().map(|other| other.started);
        for (said, news, holder, any) in [
            (standing(5, None), true, None, Some(5)),
            (standing(7, Some(3)), true, Some(7), Some(5)),
            (standing(7, Some(4)), false, Some(7), Some(5)),
            (standing(6, Some(4)), true, Some(6), Some(5)),
            (standing(4, None), true, Some(6), Some(4)),
        ] {
            assert_eq!(others.hear(said), news);
            assert_eq!(
                (started(&others.holder), started(&others.any)),
                (holder, any)
            );
        }
    }
}
