//! The screen: what is shown of a snapshot, in which order, and what keys do to it. Draws, and knows neither the broker
//! nor the terminal.

use std::cmp::Reverse;
use std::collections::{BTreeMap, VecDeque};

use ratatui::Frame;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Modifier, Style};
use ratatui::text::Line;
use ratatui::widgets::{Block, Cell, Clear, Paragraph, Row, Table};

use super::snapshot::{Group, Partition, Snapshot, Topic, rank};
use crate::human;

/// Looks that a sparkline goes back.
const HISTORY: usize = 24;

/// Groups whose lag is remembered.
const GROUPS_REMEMBERED_MAX: usize = 1000;

const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

const HELP: &str = "\
s        sort topics: records/s, bytes/s, fetched/s, size, name
g        sort groups: lag in records, in seconds, name
/        filter by a part of the name; Enter ends, Esc clears
i        show or hide internal topics
space    pause
h, ?     this help
q        quit";

/// What topics are sorted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TopicOrder {
    Records,
    Bytes,
    Fetched,
    Size,
    Name,
}

/// What groups are sorted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GroupOrder {
    Records,
    Seconds,
    Name,
}

/// What is on the screen.
pub struct Screen {
    pub snapshot: Snapshot,
    /// Instead of a newer snapshot.
    pub error: Option<String>,
    pub paused: bool,
    topic_order: TopicOrder,
    group_order: GroupOrder,
    filter: String,
    is_typing: bool,
    internal: bool,
    help: bool,
    /// Lag of each group at the last looks.
    history: BTreeMap<String, VecDeque<i64>>,
}

impl Screen {
    /// Before the first look.
    pub fn new(filter: Option<String>) -> Screen {
        Screen {
            snapshot: Snapshot::default(),
            error: None,
            paused: false,
            topic_order: TopicOrder::Records,
            group_order: GroupOrder::Records,
            filter: filter.unwrap_or_default(),
            is_typing: false,
            internal: false,
            help: false,
            history: BTreeMap::new(),
        }
    }

    /// Shows a new look.
    pub fn update(&mut self, snapshot: Snapshot) {
        self.history.retain(|name, _| snapshot.groups.iter().any(|group| group.group == *name));
        for group in snapshot.groups.iter().take(GROUPS_REMEMBERED_MAX) {
            let history = self.history.entry(group.group.clone()).or_default();
            history.push_back(group.lag_records);
            if history.len() > HISTORY {
                history.pop_front();
            }
        }
        self.snapshot = snapshot;
        self.error = None;
    }

    /// Does what a key is for; false for the end.
    pub fn key(&mut self, key: KeyEvent) -> bool {
        if key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL) {
            return false;
        }
        if self.is_typing {
            match key.code {
                KeyCode::Enter => self.is_typing = false,
                KeyCode::Esc => {
                    self.filter.clear();
                    self.is_typing = false;
                }
                KeyCode::Backspace => {
                    self.filter.pop();
                }
                KeyCode::Char(char) => self.filter.push(char),
                _ => {}
            }
            return true;
        }
        match key.code {
            KeyCode::Char('q') => return false,
            KeyCode::Esc if self.help => self.help = false,
            KeyCode::Esc => self.filter.clear(),
            KeyCode::Char('h' | '?') => self.help = !self.help,
            KeyCode::Char('/') => self.is_typing = true,
            KeyCode::Char('i') => self.internal = !self.internal,
            KeyCode::Char(' ') => self.paused = !self.paused,
            KeyCode::Char('s') => self.topic_order = self.topic_order.next(),
            KeyCode::Char('g') => self.group_order = self.group_order.next(),
            _ => {}
        }
        true
    }

    /// The topics that are shown, in order.
    pub fn topics(&self) -> Vec<&Topic> {
        let mut topics: Vec<&Topic> = (self.snapshot.topics.iter())
            .filter(|topic| (self.internal || !topic.internal) && topic.topic.contains(&self.filter))
            .collect();
        topics.sort_by_key(|topic| {
            let rate = match self.topic_order {
                TopicOrder::Records => rank(topic.produce_records_per_second),
                TopicOrder::Bytes => rank(topic.produce_bytes_per_second),
                TopicOrder::Fetched => rank(topic.fetch_bytes_per_second),
                TopicOrder::Size => topic.bytes,
                TopicOrder::Name => 0,
            };
            (Reverse(rate), topic.topic.as_str())
        });
        topics
    }

    /// The groups that are shown, in order.
    pub fn groups(&self) -> Vec<&Group> {
        let mut groups: Vec<&Group> =
            self.snapshot.groups.iter().filter(|group| group.group.contains(&self.filter)).collect();
        groups.sort_by_key(|group| {
            let lag = match self.group_order {
                GroupOrder::Records => group.lag_records.max(0).unsigned_abs(),
                GroupOrder::Seconds => rank(group.lag_seconds.unwrap_or(0.0)),
                GroupOrder::Name => 0,
            };
            (Reverse(lag), group.group.as_str())
        });
        groups
    }

    /// The hottest partitions that are shown, the hottest first.
    pub fn partitions(&self) -> Vec<&Partition> {
        self.snapshot.partitions.iter().filter(|partition| partition.name.contains(&self.filter)).collect()
    }

    /// All that is shown, for programs.
    pub fn to_json(&self) -> serde_json::Value {
        serde_json::json!({
            "broker": self.snapshot.broker,
            "topics": self.topics(),
            "partitions": self.partitions(),
            "groups": self.groups(),
        })
    }

    /// Draws all of it into what room there is.
    pub fn draw(&self, frame: &mut Frame) {
        let [head, topics, partitions, groups, foot] = Layout::vertical([
            Constraint::Length(3),
            Constraint::Fill(3),
            Constraint::Fill(2),
            Constraint::Fill(3),
            Constraint::Length(1),
        ])
        .areas(frame.area());
        let [broker, disk] = self.head();
        frame.render_widget(Paragraph::new(vec![Line::raw(broker), Line::raw(disk)]), head);
        self.draw_topics(frame, topics);
        self.draw_partitions(frame, partitions);
        self.draw_groups(frame, groups);
        frame.render_widget(Paragraph::new(self.foot()), foot);
        if self.help {
            let area = centered(frame.area(), 64, 9);
            frame.render_widget(Clear, area);
            frame.render_widget(Paragraph::new(HELP).block(Block::bordered().title(" Keys ")), area);
        }
    }

    /// The broker, and its disk and memory.
    pub fn head(&self) -> [String; 2] {
        let broker = &self.snapshot.broker;
        let uptime = std::time::Duration::from_secs(broker.uptime_seconds.max(0.0) as u64);
        let disk = broker.disk.as_ref().map_or("disk ?".to_owned(), |disk| {
            let (free, total) = (human::bytes(disk.free_bytes), human::bytes(disk.total_bytes));
            format!("disk {free} free of {total} ({})", disk.state)
        });
        let memory = broker.memory.as_ref().map_or("memory ?".to_owned(), |memory| {
            let (own, resident) = (human::bytes(memory.own_bytes), human::bytes(memory.resident_bytes));
            format!("memory {own} own, {resident} resident")
        });
        [
            format!(
                "Highwater {}, {}, up {}, {} connections, {} partitions",
                broker.version,
                broker.health,
                humantime::format_duration(uptime),
                broker.connections,
                broker.partitions
            ),
            format!(
                "in {} records/s, {}; out {}; {disk}; {memory}",
                rate(broker.produce.records_per_second),
                bytes_rate(broker.produce.bytes_per_second),
                bytes_rate(broker.fetch.bytes_per_second)
            ),
        ]
    }

    fn draw_topics(&self, frame: &mut Frame, area: Rect) {
        let rows = self.topics().into_iter().map(|topic| {
            [
                topic.topic.clone(),
                rate(topic.produce_records_per_second),
                bytes_rate(topic.produce_bytes_per_second),
                bytes_rate(topic.fetch_bytes_per_second),
                topic.partitions.to_string(),
                human::count(topic.records),
                human::bytes(topic.bytes),
            ]
        });
        let title = format!(" Topics by {:?} ", self.topic_order).to_lowercase();
        let names = ["TOPIC", "RECORDS/S", "IN", "OUT", "PARTITIONS", "RECORDS", "SIZE"];
        draw_table(frame, area, title, names, rows);
    }

    fn draw_partitions(&self, frame: &mut Frame, area: Rect) {
        let rows = self.partitions().into_iter().map(|it| {
            [
                it.name.clone(),
                rate(it.produce_records_per_second),
                human::count(it.high_watermark),
                human::bytes(it.bytes),
            ]
        });
        let names = ["PARTITION", "RECORDS/S", "HIGH WATERMARK", "SIZE"];
        draw_table(frame, area, " hottest partitions ".to_owned(), names, rows);
    }

    fn draw_groups(&self, frame: &mut Frame, area: Rect) {
        let rows = self.groups().into_iter().map(|group| {
            let history = self.history.get(&group.group);
            [
                group.group.clone(),
                human::count(group.lag_records),
                seconds(group.lag_seconds),
                seconds(group.catch_up_seconds),
                group.consume_records_per_second.map_or("?".to_owned(), rate),
                group.members.to_string(),
                group.slo_state.clone().unwrap_or_else(|| group.state.clone()),
                history.map(sparkline).unwrap_or_default(),
            ]
        });
        let title = format!(" Groups by {:?} of lag ", self.group_order).to_lowercase();
        let names = ["GROUP", "LAG", "SECONDS", "CATCH UP", "RECORDS/S", "MEMBERS", "STATE", "LAG OVER TIME"];
        draw_table(frame, area, title, names, rows);
    }

    fn foot(&self) -> String {
        match (&self.error, self.is_typing) {
            (Some(error), _) => error.clone(),
            (None, true) => format!("filter: {}_", self.filter),
            (None, false) => {
                let paused = if self.paused { "PAUSED  " } else { "" };
                let filter = match self.filter.as_str() {
                    "" => String::new(),
                    filter => format!("filter: {filter}  "),
                };
                format!(
                    "{paused}{filter}s sort  g sort groups  / filter  i internal  space pause  h help  q quit"
                )
            }
        }
    }
}

impl TopicOrder {
    fn next(self) -> TopicOrder {
        match self {
            TopicOrder::Records => TopicOrder::Bytes,
            TopicOrder::Bytes => TopicOrder::Fetched,
            TopicOrder::Fetched => TopicOrder::Size,
            TopicOrder::Size => TopicOrder::Name,
            TopicOrder::Name => TopicOrder::Records,
        }
    }
}

impl GroupOrder {
    fn next(self) -> GroupOrder {
        match self {
            GroupOrder::Records => GroupOrder::Seconds,
            GroupOrder::Seconds => GroupOrder::Name,
            GroupOrder::Name => GroupOrder::Records,
        }
    }
}

/// A table with a title. The first column takes what the others leave, and no more rows are made than are seen.
fn draw_table<const N: usize>(
    frame: &mut Frame,
    area: Rect,
    title: String,
    names: [&str; N],
    rows: impl Iterator<Item = [String; N]>,
) {
    let rows = rows.take(usize::from(area.height)).map(Row::new);
    let widths = names
        .iter()
        .enumerate()
        .map(|(index, name)| match index {
            0 => Constraint::Fill(1),
            _ => Constraint::Length(name.len().max(11) as u16),
        })
        .collect::<Vec<_>>();
    let header = Row::new(names.map(Cell::from)).style(Style::new().add_modifier(Modifier::BOLD));
    let block = Block::new().borders(ratatui::widgets::Borders::TOP).title(title);
    frame.render_widget(Table::new(rows, widths).header(header).block(block), area);
}

fn centered(area: Rect, width: u16, height: u16) -> Rect {
    let (width, height) = (width.min(area.width), height.min(area.height));
    Rect::new(area.x + (area.width - width) / 2, area.y + (area.height - height) / 2, width, height)
}

/// Records a second, whole ones where there are many.
pub fn rate(per_second: f64) -> String {
    match per_second {
        rate if rate >= 10.0 => human::count(rate as i64),
        rate => format!("{rate:.1}"),
    }
}

/// Bytes a second.
pub fn bytes_rate(per_second: f64) -> String {
    format!("{}/s", human::bytes(per_second.max(0.0) as u64))
}

/// Seconds, `?` where they are not known.
pub fn seconds(seconds: Option<f64>) -> String {
    seconds.map_or("?".to_owned(), |seconds| format!("{seconds:.1} s"))
}

/// One bar a value, the highest of them full.
fn sparkline(values: &VecDeque<i64>) -> String {
    let highest = values.iter().copied().max().unwrap_or(0).max(1);
    let bar = |value: i64| BARS[(value.clamp(0, highest) * (BARS.len() as i64 - 1) / highest) as usize];
    values.iter().map(|&value| bar(value)).collect()
}

#[cfg(test)]
mod tests {
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    use super::*;

    /// As a broker has answered.
    fn snapshot() -> Snapshot {
        let broker = r#"{"version":"0.1.0","cluster_id":"c","node_id":0,"started_at_ms":0,"uptime_seconds":61.5,
            "kafka_address":"a","data_dir":"d","ready":true,"health":"online",
            "disk":{"total_bytes":4096,"free_bytes":1024,"soft_limit_bytes":1,"hard_limit_bytes":1,"state":"ok"},
            "memory":{"resident_bytes":2048,"own_bytes":1024},"connections":3,"partitions":4,
            "produce":{"records_per_second":1234.5,"bytes_per_second":2048.0},"fetch":{"bytes_per_second":0.0}}"#;
        let topic = |name: &str, rate: f64, internal| Topic {
            topic: name.to_owned(),
            internal,
            partitions: 2,
            produce_records_per_second: rate,
            ..Topic::default()
        };
        let group = |name: &str, lag_records, lag_seconds| Group {
            group: name.to_owned(),
            lag_records,
            lag_seconds: Some(lag_seconds),
            ..Group::default()
        };
        Snapshot {
            broker: serde_json::from_str(broker).unwrap(),
            topics: vec![topic("slow", 1.0, false), topic("fast", 500.0, false), topic("__own", 900.0, true)],
            partitions: vec![Partition {
                name: "fast-1".to_owned(),
                produce_records_per_second: 400.0,
                ..Default::default()
            }],
            groups: vec![group("small", 10, 90.0), group("large", 5000, 2.0)],
        }
    }

    fn drawn(screen: &Screen, width: u16, height: u16) -> String {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| screen.draw(frame)).unwrap();
        terminal.backend().to_string()
    }

    fn press(screen: &mut Screen, keys: &str) -> bool {
        keys.chars().all(|key| screen.key(KeyEvent::from(KeyCode::Char(key))))
    }

    #[test]
    fn the_busiest_topic_and_the_largest_lag_come_first() {
        let mut screen = Screen::new(None);
        screen.update(snapshot());
        let shown = drawn(&screen, 120, 30);
        let line = |word: &str| {
            shown
                .lines()
                .position(|line| line.contains(word))
                .unwrap_or_else(|| panic!("no {word} in\n{shown}"))
        };
        assert!(line("fast  ") < line("slow  ") && line("large") < line("small"), "{shown}");
        assert!(line("fast-1") > line("hottest") && !shown.contains("__own"), "{shown}");
        assert!(shown.contains("1,234 records/s") && shown.contains("1.0 KiB free of 4.0 KiB"), "{shown}");
    }

    #[test]
    fn keys_sort_filter_and_end() {
        let mut screen = Screen::new(None);
        screen.update(snapshot());
        assert!(press(&mut screen, "g"));
        assert_eq!(screen.groups()[0].group, "small");
        assert!(press(&mut screen, "i") && screen.topics()[0].topic == "__own");
        // While a filter is typed, letters are letters.
        assert!(press(&mut screen, "/slowq"));
        assert!(screen.topics().is_empty() && screen.key(KeyEvent::from(KeyCode::Backspace)));
        assert_eq!(screen.topics()[0].topic, "slow");
        assert!(screen.key(KeyEvent::from(KeyCode::Enter)) && screen.groups().is_empty());
        assert!(press(&mut screen, "h") && drawn(&screen, 80, 24).contains("Keys"));
        assert!(!press(&mut screen, "q"));
        assert!(!screen.key(KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL)));
    }

    #[test]
    fn any_size_will_do() {
        let mut screen = Screen::new(None);
        screen.update(snapshot());
        press(&mut screen, "h");
        for (width, height) in [(1, 1), (10, 3), (40, 10), (300, 100)] {
            drawn(&screen, width, height);
        }
    }

    #[test]
    fn lag_over_time_is_a_line_of_bars() {
        assert_eq!(sparkline(&[0, 50, 100].into()), "▁▄█");
        assert_eq!(sparkline(&[0, 0].into()), "▁▁");
        let mut screen = Screen::new(None);
        (0..100).for_each(|_| screen.update(snapshot()));
        assert!(screen.history.values().all(|history| history.len() == HISTORY));
    }
}
