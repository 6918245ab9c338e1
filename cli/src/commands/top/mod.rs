//! `c3 top`: shows the load of both stages, live on the terminal or once as text.

mod sample;
mod view;

use std::collections::VecDeque;
use std::io::{self, IsTerminal};
use std::time::Duration;

use ratatui::buffer::Buffer;
use ratatui::crossterm::event::{Event, KeyCode, KeyEvent, KeyModifiers, read};
use ratatui::layout::Rect;
use ratatui::widgets::Widget;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use self::sample::{Frame, Reading};
use self::view::View;
use crate::args::RemoteArgs;
use crate::error::CliError;

/// Interval between samples. The first frame appears after one interval, since rates need two samples.
const INTERVAL: Duration = Duration::from_secs(1);
/// Number of frames in the curves of the backlog.
const HISTORY: usize = 120;
/// Width of a frame that is printed as text.
const TEXT_WIDTH: u16 = 100;
/// Events of the keyboard that may wait. A key pressed while the queue is full waits in the terminal.
const EVENTS: usize = 16;

/// Arguments of `top`.
#[derive(Debug, clap::Args)]
pub(crate) struct TopArgs {
    /// Print one frame as text and exit; default if standard output is not a terminal
    #[arg(long)]
    once: bool,
    #[command(flatten)]
    remote: RemoteArgs,
}

/// Shows frames until the user presses `q`. With `--once` or `--json`, prints one frame.
pub(crate) async fn run(args: TopArgs) -> Result<(), CliError> {
    let client = args.remote.connect().await?;
    let url = args.remote.url();
    let mut last = Reading::take(&client).await?;
    if args.once || args.remote.format.json || !io::stdout().is_terminal() {
        tokio::time::sleep(INTERVAL).await;
        let frame = Frame::between(&last, &Reading::take(&client).await?);
        let text = text(&View { url, frames: &VecDeque::from([frame.clone()]), problem: None, is_live: false });
        return args.remote.format.print(text, &frame);
    }
    let mut terminal = Terminal::start()?;
    let mut frames = VecDeque::from([Frame::between(&last, &last)]);
    let mut events = keyboard();
    let mut ticks = interval_at(Instant::now() + INTERVAL, INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut problem = None;
    loop {
        let view = View { url, frames: &frames, problem: problem.as_deref(), is_live: true };
        terminal.0.draw(|frame| frame.render_widget(view, frame.area())).map_err(|error| CliError::stdout(&error))?;
        tokio::select! {
            event = events.recv() => match event {
                Some(Event::Key(key)) if ends(key) => return Ok(()),
                Some(_) => {}
                None => return Err(CliError::Failed("the terminal sends no keys: use --once".to_owned())),
            },
            _ = ticks.tick() => match Reading::take(&client).await {
                Ok(reading) => {
                    frames.push_back(Frame::between(&last, &reading));
                    frames.drain(..frames.len().saturating_sub(HISTORY));
                    (last, problem) = (reading, None);
                }
                // The gateway may come back.
                Err(error) => problem = Some(error.to_string()),
            },
        }
    }
}

/// Returns true for `q`, Esc and Ctrl-C.
fn ends(key: KeyEvent) -> bool {
    let is_control = key.modifiers.contains(KeyModifiers::CONTROL);
    matches!(key.code, KeyCode::Char('q') | KeyCode::Esc) || (is_control && key.code == KeyCode::Char('c'))
}

/// Reads the keyboard on a thread of its own, which ends with the process.
fn keyboard() -> mpsc::Receiver<Event> {
    let (sender, events) = mpsc::channel(EVENTS);
    std::thread::spawn(move || {
        while let Ok(event) = read() {
            if sender.blocking_send(event).is_err() {
                return;
            }
        }
    });
    events
}

/// Terminal on its alternate screen. Dropping the value restores the screen, also if a signal ends the command.
struct Terminal(ratatui::DefaultTerminal);

impl Terminal {
    fn start() -> Result<Self, CliError> {
        let failed = |error: io::Error| CliError::Failed(format!("the terminal cannot be used ({error}): use --once"));
        ratatui::try_init().map(Self).map_err(failed)
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        ratatui::restore();
    }
}

/// Renders a frame as text.
fn text(view: &View<'_>) -> String {
    let area = Rect::new(0, 0, TEXT_WIDTH, view.height());
    let mut buffer = Buffer::empty(area);
    view.render(area, &mut buffer);
    let symbol = |x, y| buffer.cell((x, y)).map_or(" ", |cell| cell.symbol());
    let line = |y| String::from_iter((0..area.width).map(|x| symbol(x, y))).trim_end().to_owned();
    Vec::from_iter((0..area.height).map(line)).join("\n")
}
