//! Panics while something is shown on the screen of `aioxide top`.

#[path = "../../../runtime/src/bin/aioxide/top/terminal.rs"]
mod terminal;

fn main() {
    let shown = terminal::with(|terminal| {
        terminal.draw(|frame| frame.render_widget("shown", frame.area()))?;
        panic!("on the screen")
    });
    let shown: std::io::Result<()> = shown;
    drop(shown);
}
