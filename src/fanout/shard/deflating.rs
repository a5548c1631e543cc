//! Rows for clients that take compressed frames: who they are, and the state that compressing needs while there are any.

use std::sync::Arc;

use crate::model::filter::FilterId;
use crate::model::position::Cursor;
use crate::session::{Batch, BatchLimits};
use crate::telemetry::metrics::Metrics;
use crate::wire::block::Block;
use crate::wire::deflate::{Coding, Deflate, Deflater};

/// What a shard has for its clients that take compressed frames; nothing while there are none.
#[derive(Default)]
pub(super) struct Deflating {
    deflater: Option<Box<Deflater>>,
    /// What was agreed on, and by how many clients. There are few ways: each feed has one, or several where clients ask
    /// for small windows.
    agreed: Vec<(Deflate, usize)>,
}

impl Deflating {
    /// A client came whose rows are put into frames so.
    pub(super) fn entered(&mut self, coding: Coding) {
        let Coding::Deflate(deflate) = coding else {
            return;
        };
        match self.agreed.iter_mut().find(|(known, _)| *known == deflate) {
            Some((_, clients)) => *clients += 1,
            None => self.agreed.push((deflate, 1)),
        }
    }

    /// Such a client is gone.
    pub(super) fn left(&mut self, coding: Coding) {
        let Coding::Deflate(deflate) = coding else {
            return;
        };
        for (_, clients) in self
            .agreed
            .iter_mut()
            .filter(|(known, _)| *known == deflate)
        {
            *clients -= 1;
        }
        self.agreed.retain(|(_, clients)| *clients > 0);
        if self.agreed.is_empty() {
            *self = Deflating::default();
        }
    }

    /// Returns every way in which rows are put into frames here, the plain one first.
    pub(super) fn codings(&self) -> impl Iterator<Item = Coding> {
        let agreed = self.agreed.iter();
        std::iter::once(Coding::Plain).chain(agreed.map(|(deflate, _)| Coding::Deflate(*deflate)))
    }

    /// Gathers what `filter` takes of `blocks` above `position`, for a client whose rows are put into frames so.
    pub(super) fn gather<'a>(
        &mut self,
        blocks: impl Iterator<Item = &'a Arc<Block>>,
        (filter, position): (FilterId, Cursor),
        limits: BatchLimits,
        coding: Coding,
        metrics: &Metrics,
    ) -> Batch<'a> {
        let Coding::Deflate(deflate) = coding else {
            return Batch::gather(blocks, filter, position, limits);
        };
        let deflater = self.deflater.get_or_insert_default();
        let batch = Batch::gather_deflated(blocks, filter, position, limits, (deflate, deflater));
        let (taken, made) = deflater.take_counts();
        metrics.compression.made("rows", taken, made);
        batch
    }
}
