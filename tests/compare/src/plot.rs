//! The ratios of all tables as one picture: a point for the median, a line between the quartiles.

use plotters::coord::ranged1d::SegmentValue;
use plotters::prelude::*;

use anyhow::{Result, anyhow};

use crate::stats::{Spread, figure};
use crate::table::{Ratios, Table};

/// Of a panel; two of them stand side by side.
const WIDTH: u32 = 620;
const ROW: u32 = 20;
/// Of a panel, besides its rows: its title and its axis.
const FRAME: u32 = 64;
const LABELS: u32 = 200;

const OURS: RGBColor = RGBColor(0xc2, 0x41, 0x0c);
const PEERS: RGBColor = RGBColor(0x33, 0x55, 0x77);

pub(crate) fn svg(tables: &[Table]) -> Result<String> {
    let panels: Vec<Ratios<'_>> = tables.iter().flat_map(Table::ratios).collect();
    let bands: Vec<(&[Ratios<'_>], u32)> = panels
        .chunks(2)
        .map(|band| {
            let rows = band.iter().map(|panel| panel.rows.len()).max();
            (band, FRAME + ROW * rows.unwrap_or(0) as u32)
        })
        .collect();
    let height: u32 = bands.iter().map(|(_, height)| height).sum();
    let mut svg = String::new();
    {
        let size = (2 * WIDTH, height.max(FRAME));
        let root = SVGBackend::with_string(&mut svg, size).into_drawing_area();
        draw(&root, &bands).map_err(|error| anyhow!("the plot: {error}"))?;
    }
    Ok(svg)
}

type Area<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;
type Drawn = Result<(), Box<dyn std::error::Error>>;

fn draw(root: &Area<'_>, bands: &[(&[Ratios<'_>], u32)]) -> Drawn {
    root.fill(&WHITE)?;
    let mut rest = root.clone();
    for (band, height) in bands {
        let (area, below) = rest.split_vertically(*height);
        let (left, right) = area.split_horizontally(WIDTH);
        for (panel, area) in band.iter().zip([left, right]) {
            draw_panel(&area, panel)?;
        }
        rest = below;
    }
    root.present()?;
    Ok(())
}

fn draw_panel(area: &Area<'_>, panel: &Ratios<'_>) -> Drawn {
    let spreads = panel.rows.iter().map(|(_, spread)| spread);
    let low = spreads.clone().map(|spread| spread.low).fold(0.9, f64::min);
    let high = spreads.map(|spread| spread.high).fold(1.1, f64::max);
    // Of its powers the axis has labels.
    let base = match high / low {
        wide if wide > 30.0 => 10.0,
        medium if medium > 3.0 => 2.0,
        _ => 1.1,
    };
    let rows = panel.rows.len();
    let mut chart = ChartBuilder::on(area)
        .caption(&panel.title, ("sans-serif", 15))
        .margin_right(60)
        .y_label_area_size(LABELS)
        .x_label_area_size(24)
        .build_cartesian_2d(
            (low / 1.05..high * 1.05).log_scale().base(base),
            (0..rows).into_segmented(),
        )?;
    let name = |place: &SegmentValue<usize>| match place {
        // The first one on top.
        SegmentValue::CenterOf(place) | SegmentValue::Exact(place) => panel
            .rows
            .len()
            .checked_sub(place + 1)
            .map_or(String::new(), |place| panel.rows[place].0.to_owned()),
        SegmentValue::Last => String::new(),
    };
    chart
        .configure_mesh()
        .disable_y_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(BLACK.mix(0.1))
        .y_labels(rows)
        .y_label_formatter(&name)
        .x_labels(8)
        .x_label_formatter(&|ratio| figure(*ratio))
        .label_style(("sans-serif", 12))
        .draw()?;
    chart.draw_series([PathElement::new(
        [(1.0, SegmentValue::Exact(0)), (1.0, SegmentValue::Last)],
        BLACK.mix(0.4),
    )])?;
    for (place, (who, spread)) in panel.rows.iter().enumerate() {
        let colour = if who.starts_with("aioxide") {
            OURS
        } else {
            PEERS
        };
        let y = SegmentValue::CenterOf(rows - 1 - place);
        let Spread { low, median, high } = *spread;
        chart.draw_series([PathElement::new(
            [(low, y.clone()), (high, y.clone())],
            colour.stroke_width(3),
        )])?;
        chart.draw_series([Circle::new((median, y.clone()), 4, colour.filled())])?;
        chart
            .draw_series([EmptyElement::at((high, y))
                + Text::new(figure(median), (8, -5), ("sans-serif", 11))])?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::tests::table;

    #[test]
    fn all_rows_are_drawn() {
        let svg = svg(&[table(), table()]).unwrap();
        for text in ["Echo: CPU, µs", "bare", "aioxide", "1.50"] {
            assert_eq!(svg.matches(text).count(), 2, "{text}: {svg}");
        }
        assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"));
    }

    #[test]
    fn nothing_to_draw_is_no_error() {
        assert!(svg(&[]).unwrap().starts_with("<svg"));
    }
}
