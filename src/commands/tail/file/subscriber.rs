//! The one subscriber that `tail FILE` serves: does what its session asks for, and prints.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::bail;

use super::table_reader::TableReader;
use crate::catchup::PAGE;
use crate::commands::tail::message::Message;
use crate::commands::tail::output::Output;
use crate::commands::tail::{beginning, none_up_to, notice};
use crate::hub::{Cause, Feed, Presence, TooManyValues, View};
use crate::model::filter::{Filter, FilterColumn};
use crate::model::position::Cursor;
use crate::model::wakeup::{Waiter, Wakes};
use crate::session::table_bounds::TableBounds;
use crate::session::{Batch, BatchLimits, Request, Session, Since, Step};
use crate::sqlite::open_connections::OpenConnections;
use crate::sqlite::reader::LastRows;
use crate::text::nearest::did_you_mean;
use crate::wire::control::Control;
use crate::wire::frame::payload;

/// How long until a read that failed is tried again.
const RETRY: Duration = Duration::from_millis(250);
/// How often it is looked whether the table came or went, and whether anybody still reads the output.
const LOOK: Duration = Duration::from_secs(1);
const BATCH: BatchLimits = BatchLimits {
    runs: 1024,
    bytes: 1 << 20,
};

/// The one subscriber that `tail FILE` serves.
pub(super) struct Subscriber<'a> {
    path: &'a Path,
    feed: &'a Arc<Feed>,
    filter: Filter,
    session: Session,
    view: View,
    table: TableReader<'a>,
    presence: Presence,
    /// Rows were announced, and none has come so far.
    nothing_yet: bool,
    output: Output,
}

impl<'a> Subscriber<'a> {
    pub(super) fn new(
        path: &'a Path,
        feed: &'a Arc<Feed>,
        open_connections: Arc<OpenConnections>,
        request: Request,
        output: Output,
    ) -> Result<Subscriber<'a>, TooManyValues> {
        let filter = request.filter.clone();
        let session = Session::begin(feed, request)?;
        Ok(Subscriber {
            path,
            feed,
            filter,
            session,
            view: feed.view(),
            table: TableReader::new(path, feed, open_connections),
            presence: Presence::Open,
            nothing_yet: false,
            output,
        })
    }

    pub(super) fn refuse_unknown_columns(&self) -> anyhow::Result<()> {
        let Some(schema) = self.feed.schema() else {
            return Ok(());
        };
        let filterable = schema.filterable();
        let known = filterable.join(", ");
        let mut columns = self.filter.terms().map(|(column, _)| column);
        let is_unknown = |column: &&str| schema.place_of(FilterColumn::Asked(column)).is_none();
        match columns.find(is_unknown) {
            Some(unrecorded) if schema.place(unrecorded).is_some() => bail!(
                "--filter: the capture of table {} does not record {unrecorded}, so changes can't be filtered by it; there \
                 are {known}",
                schema.shown().0,
            ),
            Some(unknown) => bail!(
                "--filter: table {} has no column {unknown}{}; it has {known}",
                schema.shown().0,
                did_you_mean(unknown, filterable.iter().map(|column| &**column)),
            ),
            None => Ok(()),
        }
    }

    /// Has changes laid out as such.
    fn tell_kind(&mut self) {
        let schema = self.feed.schema();
        if schema.is_some_and(|schema| schema.changes.is_some()) {
            self.output.of_changes();
        }
    }

    /// Says where a subscription begins that is told nothing itself. Where there is no table yet, that is said instead.
    pub(super) fn tell_plain_beginning(&self) {
        if !self.session.is_resumable() && self.feed.presence() == Presence::Open {
            self.tell_beginning(&self.feed.config.name, self.session.position(), true);
        }
    }

    /// Says that the table is waited for, in the words for whoever named it, where it is not there.
    pub(super) fn tell_missing(&mut self, words: Option<String>) {
        let presence = self.feed.presence();
        if let (Presence::Away(absence), Some(words)) = (&presence, words)
            && absence.cause == Cause::NoTable
        {
            notice(words);
            self.presence = presence;
        }
    }

    fn tell_beginning(&self, feed: &str, after: Cursor, is_all: bool) {
        let path = self.path.display();
        notice(format_args!(
            "reading {path}, {}",
            beginning(feed, after, is_all)
        ));
    }

    pub(super) fn run(&mut self, waiter: &Waiter) -> anyhow::Result<()> {
        self.tell_kind();
        loop {
            if waiter.take().contains(Wakes::STOP) {
                return Ok(self.output.flush()?);
            }
            self.feed.refresh(&mut self.view);
            self.tell_presence()?;
            let pause = match self.session.next(&self.view) {
                Step::Say(said) => self.tell_live(&said)?,
                Step::TakeRows => self.take_rows()?,
                Step::ReadPage => self.read_page()?,
                Step::ReadTable => self.read_table()?,
                Step::AskBounds => self.ask_bounds()?,
                Step::Wait | Step::WaitForTable | Step::WaitForHead => {
                    // An idle connection would only keep a writer from being the last to close.
                    self.table.close();
                    Some(LOOK)
                }
                Step::Close(_) => self.start_over()?,
            };
            if let Some(pause) = pause {
                self.output.flush()?;
                if waiter.wait(pause).contains(Wakes::STOP) || self.output.reader_is_gone() {
                    return Ok(());
                }
            }
        }
    }

    /// Where all there was is through and nothing of it was printed, that is said.
    fn tell_live(&mut self, said: &Control) -> anyhow::Result<Option<Duration>> {
        if let Control::Live { id } = said
            && std::mem::take(&mut self.nothing_yet)
        {
            self.output.flush()?;
            notice(none_up_to(id));
        }
        Ok(None)
    }

    /// Says once what keeps rows from coming, and once that they come again.
    fn tell_presence(&mut self) -> anyhow::Result<()> {
        let presence = self.feed.presence();
        if presence == self.presence {
            return Ok(());
        }
        self.output.flush()?;
        match &presence {
            Presence::Open => notice(format_args!("{} is open", self.path.display())),
            Presence::Away(absence) => notice(&absence.message),
        }
        self.presence = presence;
        self.tell_kind();
        self.refuse_unknown_columns()
    }

    /// The history changed under a subscription that can't be told: all of the new one is new.
    fn start_over(&mut self) -> anyhow::Result<Option<Duration>> {
        self.tell_replaced()?;
        let request = Request {
            since: Some(Since::Earliest),
            filter: self.filter.clone(),
        };
        self.session = Session::begin(self.feed, request)?;
        Ok(None)
    }

    fn tell_replaced(&mut self) -> anyhow::Result<()> {
        self.output.flush()?;
        notice("the history was replaced; starting over with its first row");
        Ok(())
    }

    fn take_rows(&mut self) -> anyhow::Result<Option<Duration>> {
        let (filter, position) = (self.session.filter_id(), self.session.position());
        let batch = Batch::gather(self.view.after(position), filter, position, BATCH);
        for (_, frame) in batch.runs.iter().flat_map(|run| run.frames()) {
            self.nothing_yet = false;
            print(&mut self.output, frame)?;
        }
        if let Some(reached) = batch.reaches {
            self.session.advance(reached);
        }
        Ok(None)
    }

    fn read_page(&mut self) -> anyhow::Result<Option<Duration>> {
        let standing = self.feed.standing();
        let (generation, position) = (self.session.generation(), self.session.position());
        if standing.generation != generation {
            return Ok(None);
        }
        let filter = Arc::clone(self.session.filter());
        let page = self.table.read(|connection, rows| {
            rows.between(connection, position, standing.head, PAGE, &filter)
        });
        // A page of a history that was replaced meanwhile would be printed again with the new one.
        let Some(page) = page.filter(|_| self.is_current(generation)) else {
            return Ok(Some(RETRY));
        };
        let Some(page) = page else {
            bail!("{}", self.filter_gone());
        };
        self.nothing_yet &= page.entries.is_empty();
        for index in 0..page.entries.len() {
            print(&mut self.output, &page.bytes[page.span(index)])?;
        }
        self.session.advance(page.last);
        Ok(None)
    }

    /// Prints rows of the captured table as it is.
    fn read_table(&mut self) -> anyhow::Result<Option<Duration>> {
        let Some(from) = self.session.table_position().cloned() else {
            return Ok(None);
        };
        let (generation, filter) = (self.session.generation(), Arc::clone(self.session.filter()));
        let page = self
            .table
            .read(|connection, rows| rows.table_page(connection, &from, PAGE, &filter));
        let Some(page) = page.filter(|_| self.is_current(generation)) else {
            return Ok(Some(RETRY));
        };
        let Some(page) = page else {
            bail!("{}", self.filter_gone());
        };
        let block = &page.block;
        self.nothing_yet &= block.entries.is_empty();
        for index in 0..block.entries.len() {
            print(&mut self.output, &block.bytes[block.span(index)])?;
        }
        self.session.took_of_table(&page, block.last);
        Ok(None)
    }

    fn filter_gone(&self) -> String {
        format!(
            "a column that --filter names is gone from the table {}",
            self.feed.config.table
        )
    }

    /// Returns whether what was read last is of the file that is there now, and of this history.
    fn is_current(&self, generation: u64) -> bool {
        self.table.is_current_file() && self.feed.standing().generation == generation
    }

    fn ask_bounds(&mut self) -> anyhow::Result<Option<Duration>> {
        let Some(bounds) = self.bounds() else {
            return Ok(Some(RETRY));
        };
        match self.session.opened(&bounds) {
            Some(Control::Reset { .. }) => self.tell_replaced()?,
            Some(Control::Hello {
                recovered: false,
                since,
                ..
            }) => {
                notice(format_args!(
                    "the id of --since can't be gone on from; starting over after id {since}"
                ));
            }
            Some(Control::Hello {
                feed, since, head, ..
            }) => {
                self.nothing_yet = since < head;
                self.tell_beginning(&feed, since, since >= head);
            }
            _ => {}
        }
        Ok(None)
    }

    /// Where the table begins; `None` where it can't be read right now.
    fn bounds(&mut self) -> Option<TableBounds> {
        let standing = self.feed.standing();
        let (filter, last) = (Arc::clone(self.session.filter()), self.session.last());
        let mut bounds = TableBounds::of(self.feed, standing);
        self.table.read(|connection, rows| {
            bounds.read(connection, rows)?;
            let Some(n) = last else { return Ok(()) };
            let mut newest = LastRows::new(n, bounds.head);
            while !newest.step(connection, rows, &filter)? {}
            bounds.start_of_last = newest.start();
            Ok(())
        })?;
        Some(bounds)
    }
}

fn print(output: &mut Output, frame: &[u8]) -> anyhow::Result<()> {
    let text = std::str::from_utf8(payload(frame))?;
    if let Message::Row { row, truncated } = Message::parse(text)? {
        output.row(row)?;
        if !truncated.is_empty() {
            output.flush()?;
            notice(format_args!(
                "too large to be printed whole, cut in the row above: {}",
                truncated.join(", ")
            ));
        }
    }
    Ok(())
}
