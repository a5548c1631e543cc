//! Subscribers that have everything, by feed and filter: a block is gathered once for all of them.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Instant;

use super::{GroupKey, Shard};
use crate::fanout::conn::{Conn, ConnState, Sent};
use crate::fanout::mailbox::ConnId;
use crate::model::filter::FilterId;
use crate::model::position::Cursor;
use crate::session::BatchLimits;
use crate::wire::block::Block;
use crate::wire::deflate::Coding;

/// Rows in a burst are written to a live group at once up to this; beyond it members go on one by one.
const COHORT_BATCH: BatchLimits = BatchLimits {
    runs: 512,
    bytes: 512 * 1024,
};

impl Shard {
    /// A feed's log moved: everyone who had everything gets what is new.
    pub(super) fn feed_moved(&mut self, feed: usize) {
        self.know(feed);
        let watched = &mut self.feeds[feed];
        let head = watched.view.head;
        let refreshed = self.context.hub.feeds[feed].refresh(&mut watched.view);
        // Filters may be gone, and who takes rows whole is to hear of it.
        let concerns_somebody = refreshed.reshaped
            && watched
                .groups
                .keys()
                .any(|group| group.filter != FilterId::NONE);
        let is_gone = refreshed.presence_changed && watched.view.presence.is_gone();
        if refreshed.replaced || concerns_somebody || is_gone || head < watched.view.floor {
            return self.disband(feed, head);
        }
        let fresh: Vec<Arc<Block>> = watched
            .view
            .blocks
            .range(refreshed.fresh_from..)
            .cloned()
            .collect();
        self.take_fresh(feed, head, &fresh);
        self.look_ahead(feed);
        if refreshed.presence_changed {
            self.tell_presence(feed);
        }
    }

    /// Who began above the head looks whether the log has come to where it stands.
    fn look_ahead(&mut self, feed: usize) {
        for id in std::mem::take(&mut self.feeds[feed].ahead) {
            if self.is(id) && self.conns[id.slot].place == ConnState::Away {
                self.conns[id.slot].place = ConnState::Behind;
                self.ready.push(id);
            }
        }
    }

    /// Gives everyone who had everything up to `head` what is new.
    fn take_fresh(&mut self, feed: usize, head: Cursor, fresh: &[Arc<Block>]) {
        if fresh.is_empty() {
            return;
        }
        let mut concerned = self.concerned(feed, fresh);
        // Nobody waits for rows to be compressed who takes them as they are.
        concerned.sort_by_key(|group| group.coding != Coding::Plain);
        for group in concerned {
            self.broadcast(feed, group, head, fresh);
        }
        self.observe_broadcast(fresh);
    }

    pub(super) fn observe_broadcast(&self, fresh: &[Arc<Block>]) {
        for block in fresh.iter().filter(|block| block.handover.done()) {
            self.context.metrics.handed_on(block);
        }
    }

    /// The live groups that take something of these blocks, or can't know from them whether they do.
    pub(super) fn concerned(&self, feed: usize, fresh: &[Arc<Block>]) -> Vec<GroupKey> {
        let groups = &self.feeds[feed].groups;
        let concerns = |group: &GroupKey| {
            let filter = group.filter;
            fresh.iter().any(|block| {
                !block.knows(filter) || !block.selection(filter, Cursor::MIN).is_empty()
            })
        };
        // All live groups, or only those that the blocks name: whichever are fewer. Filters not known to the first block
        // are the youngest few.
        let named: usize = fresh
            .iter()
            .filter_map(|b| b.matches.as_ref())
            .map(|m| m.rows.len())
            .sum();
        if named >= groups.len() {
            return groups
                .keys()
                .filter(|group| concerns(group))
                .copied()
                .collect();
        }
        let known_below = fresh
            .iter()
            .filter_map(|b| b.matches.as_ref())
            .map(|m| m.known_below)
            .min();
        let named = fresh
            .iter()
            .filter_map(|block| block.matches.as_ref())
            .flat_map(|matches| matches.rows.keys().copied())
            .chain([FilterId::NONE]);
        let in_all_codings = named.flat_map(|filter| {
            let codings = self.deflating.codings();
            codings.map(move |coding| GroupKey { filter, coding })
        });
        let mut found: HashSet<GroupKey> = in_all_codings
            .filter(|group| groups.contains_key(group))
            .collect();
        found.extend(&self.feeds[feed].whole);
        if let Some(known_below) = known_below
            && self.feeds[feed].youngest >= known_below
        {
            let young = groups.keys().filter(|group| group.filter >= known_below);
            found.extend(young);
        }
        found.into_iter().collect()
    }

    /// Writes what a live group takes of `fresh` to each of its members.
    pub(super) fn broadcast(
        &mut self,
        feed: usize,
        key: GroupKey,
        from: Cursor,
        fresh: &[Arc<Block>],
    ) {
        let Some(group) = self.feeds[feed].groups.get(&key) else {
            return;
        };
        let members = group.members.clone();
        let batch = self.deflating.gather(
            fresh.iter(),
            (key.filter, from),
            COHORT_BATCH,
            key.coding,
            &self.context.metrics,
        );
        let slices = batch.slices();
        let whole = batch.reaches == Some(self.feeds[feed].view.head);
        let now = Instant::now();
        let (mut sent, mut saved) = (0, 0);
        for slot in members {
            let conn = &mut self.conns[slot];
            let Some(Sent { all, reached, rows }) = conn.send(&batch, &slices) else {
                self.remove(slot);
                continue;
            };
            sent += rows;
            if rows > 0 {
                conn.last_text = now;
            }
            if all {
                saved += batch.saved;
            }
            if all && whole {
                continue;
            }
            self.fall_behind(slot, reached.unwrap_or(from));
            if all {
                let serial = self.conns[slot].serial;
                self.ready.push(ConnId { slot, serial });
            } else {
                self.stalled.insert(slot);
            }
        }
        self.context.metrics.messages_sent.inc_by(sent as u64);
        self.context.metrics.compression.saved("ws", saved);
    }

    /// The history changed, or the log ran ahead of this shard: everyone goes on from its own position.
    pub(super) fn disband(&mut self, feed: usize, head: Cursor) {
        self.recall(feed, head, |_| true);
    }

    /// The table went away or came back: who waits for it goes on, and who may be told of it is told.
    fn tell_presence(&mut self, feed: usize) {
        let head = self.feeds[feed].view.head;
        self.recall(feed, head, |conn| {
            conn.place == ConnState::Away || conn.session.is_resumable()
        });
    }

    /// Has subscribers that had everything up to `head`, or wait for a table, go on from their own positions.
    fn recall(&mut self, feed: usize, head: Cursor, which: impl Fn(&Conn) -> bool) {
        let slots: Vec<usize> = self
            .conns
            .iter()
            .filter(|(_, conn)| conn.session.feed().index == feed && which(conn))
            .map(|(slot, _)| slot)
            .collect();
        for slot in slots {
            self.fall_behind(slot, head);
            let conn = &mut self.conns[slot];
            if conn.place == ConnState::Away {
                conn.place = ConnState::Behind;
            }
            if conn.place == ConnState::Behind {
                self.ready.push(ConnId {
                    slot,
                    serial: conn.serial,
                });
            }
        }
    }

    pub(super) fn join_cohort(&mut self, slot: usize) {
        let conn = &mut self.conns[slot];
        let watched = &mut self.feeds[conn.session.feed().index];
        let key = key_of(conn);
        // No block of the log knows those who take rows whole, which is found out otherwise.
        match key.filter.is_whole() {
            true => drop(watched.whole.insert(key)),
            false => watched.youngest = watched.youngest.max(key.filter),
        }
        let group = watched.groups.entry(key).or_default();
        conn.place = ConnState::CaughtUp {
            at: group.members.len(),
        };
        group.members.push(slot);
        conn.span
            .in_scope(|| tracing::debug!(position = conn.session.position().0, "caught up"));
    }

    /// Has a subscriber that had everything up to `position` go on by itself from there.
    pub(super) fn fall_behind(&mut self, slot: usize, position: Cursor) {
        let conn = &self.conns[slot];
        if matches!(conn.place, ConnState::CaughtUp { .. }) {
            conn.span
                .in_scope(|| tracing::debug!(position = position.0, "behind"));
        }
        self.leave_live_group(slot, position);
    }

    /// Takes a caught-up subscriber out of its live group, with everything up to `position`.
    pub(super) fn leave_live_group(&mut self, slot: usize, position: Cursor) {
        let conn = &mut self.conns[slot];
        let ConnState::CaughtUp { at } = conn.place else {
            return;
        };
        conn.place = ConnState::Behind;
        conn.session.advance(position);
        let (feed, key) = (conn.session.feed().index, key_of(conn));
        let groups = &mut self.feeds[feed].groups;
        let Some(group) = groups.get_mut(&key) else {
            return;
        };
        group.members.swap_remove(at);
        match group.members.get(at) {
            Some(&moved) => self.conns[moved].place = ConnState::CaughtUp { at },
            None if group.members.is_empty() => {
                groups.remove(&key);
                self.feeds[feed].whole.remove(&key);
            }
            None => {}
        }
    }
}

/// The live group that a connection belongs to where it has everything.
fn key_of(conn: &Conn) -> GroupKey {
    GroupKey {
        filter: conn.session.filter_id(),
        coding: conn.coding,
    }
}
