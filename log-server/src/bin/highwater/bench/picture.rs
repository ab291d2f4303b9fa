//! A bench as an SVG: latency by percentile, latency over time, lag over time.

use std::error::Error;

use plotters::coord::{CoordTranslate, Shift};
use plotters::prelude::*;

use super::report::{Latency, Report};

/// Width and height of the picture in pixels.
const SIZE: (u32, u32) = (960, 1080);

const PRODUCE: RGBColor = RGBColor(31, 119, 180);
const END_TO_END: RGBColor = RGBColor(214, 90, 20);
const LAG_SECONDS: RGBColor = RGBColor(120, 60, 160);

type Outcome = Result<(), Box<dyn Error>>;
type Panel<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// The picture, as the text of an SVG file.
///
/// # Errors
/// A figure that cannot be drawn.
pub fn draw(report: &Report) -> Result<String, String> {
    let mut svg = String::new();
    draw_into(&mut svg, report).map_err(|error| format!("cannot draw the picture: {error}"))?;
    Ok(svg)
}

fn draw_into(svg: &mut String, report: &Report) -> Outcome {
    let root = SVGBackend::with_string(svg, SIZE).into_drawing_area();
    root.fill(&WHITE)?;
    let panels = root.split_evenly((3, 1));
    draw_percentiles(&panels[0], report)?;
    draw_latency(&panels[1], report)?;
    draw_lag(&panels[2], report)?;
    root.present()?;
    Ok(())
}

/// Latency by percentile, where each step to the right leaves a tenth of the records above.
fn draw_percentiles(panel: &Panel<'_>, report: &Report) -> Outcome {
    let nines = |points: &[(f64, f64)]| -> Vec<_> {
        // The last percentile is 100, which has no place on this scale.
        let below_all = points.iter().filter(|(quantile, _)| *quantile < 1.0);
        below_all.map(|&(quantile, ms)| (-(1.0 - quantile).log10(), ms)).collect()
    };
    let (produced, consumed) = (nines(&report.curves.produced), nines(&report.curves.consumed));
    let all = || produced.iter().chain(&consumed);
    let right = all().map(|point| point.0).fold(2.0, f64::max);
    let mut chart = ChartBuilder::on(panel)
        .caption(title(report), ("sans-serif", 18))
        .margin(12)
        .x_label_area_size(42)
        .y_label_area_size(76)
        .build_cartesian_2d(0.0..right, span(all().map(|point| point.1)).log_scale())?;
    chart
        .configure_mesh()
        .x_desc("percentile")
        .x_labels(right as usize + 1)
        .y_desc("latency (ms)")
        .x_label_formatter(&|nines| percentile(*nines))
        .y_label_formatter(&|ms| plain(*ms))
        .draw()?;
    line(&mut chart, "produce", PRODUCE, 2, produced)?;
    if report.consumed.is_some() {
        line(&mut chart, "end to end", END_TO_END, 2, consumed)?;
    }
    chart.configure_series_labels().position(SeriesLabelPosition::UpperLeft).border_style(BLACK).draw()?;
    Ok(())
}

/// The median and the 99th percentile of each stretch of the run.
fn draw_latency(panel: &Panel<'_>, report: &Report) -> Outcome {
    let over_time = |of: &dyn Fn(&super::report::Point) -> Option<f64>| -> Vec<_> {
        report.timeline.iter().filter_map(|point| Some((point.second, of(point)?))).collect()
    };
    let produce = |at: fn(&Latency) -> Option<f64>| over_time(&|point| at(&point.produce_latency_ms));
    let end_to_end = |at: fn(&Latency) -> Option<f64>| over_time(&|point| at(&point.end_to_end_latency_ms));
    let mut lines = vec![
        ("produce, median", PRODUCE, 1, produce(|latency| latency.p50)),
        ("produce, p99", PRODUCE, 3, produce(|latency| latency.p99)),
    ];
    if report.consumed.is_some() {
        lines.push(("end to end, median", END_TO_END, 1, end_to_end(|latency| latency.p50)));
        lines.push(("end to end, p99", END_TO_END, 3, end_to_end(|latency| latency.p99)));
    }
    let values = lines.iter().flat_map(|(.., points)| points.iter().map(|point| point.1));
    let mut chart = ChartBuilder::on(panel)
        .margin(12)
        .x_label_area_size(42)
        .y_label_area_size(76)
        .build_cartesian_2d(0.0..duration(report), span(values).log_scale())?;
    chart
        .configure_mesh()
        .x_desc("time (s)")
        .y_desc("latency (ms)")
        .y_label_formatter(&|ms| plain(*ms))
        .draw()?;
    for (name, color, width, points) in lines {
        line(&mut chart, name, color, width, points)?;
    }
    chart.configure_series_labels().position(SeriesLabelPosition::UpperRight).border_style(BLACK).draw()?;
    Ok(())
}

/// Records that are acknowledged and not received, and the age of the oldest of them.
fn draw_lag(panel: &Panel<'_>, report: &Report) -> Outcome {
    let records: Vec<_> = report.timeline.iter().map(|it| (it.second, it.lag_records as f64)).collect();
    let seconds: Vec<_> = report.timeline.iter().map(|it| (it.second, it.lag_seconds)).collect();
    let top = |points: &[(f64, f64)], least| 1.05 * points.iter().map(|point| point.1).fold(least, f64::max);
    let mut chart = ChartBuilder::on(panel)
        .margin(12)
        .x_label_area_size(42)
        .y_label_area_size(76)
        .right_y_label_area_size(76)
        .build_cartesian_2d(0.0..duration(report), 0.0..top(&records, 1.0))?
        .set_secondary_coord(0.0..duration(report), 0.0..top(&seconds, 0.001));
    chart
        .configure_mesh()
        .x_desc("time (s)")
        .y_desc("lag (records)")
        .y_label_formatter(&|records| plain(*records))
        .draw()?;
    chart.configure_secondary_axes().y_desc("lag (s)").y_label_formatter(&|lag| plain(*lag)).draw()?;
    line(&mut chart, "records", PRODUCE, 2, records)?;
    chart
        .draw_secondary_series(LineSeries::new(seconds, LAG_SECONDS.stroke_width(2)))?
        .label("seconds")
        .legend(move |from| key(from, LAG_SECONDS, 2));
    chart.configure_series_labels().position(SeriesLabelPosition::UpperRight).border_style(BLACK).draw()?;
    Ok(())
}

/// A line, and its entry in the legend.
fn line<'a, C: CoordTranslate<From = (f64, f64)>>(
    chart: &mut ChartContext<'a, SVGBackend<'a>, C>,
    name: &str,
    color: RGBColor,
    width: u32,
    points: Vec<(f64, f64)>,
) -> Outcome {
    let series = chart.draw_series(LineSeries::new(points, color.stroke_width(width)))?;
    series.label(name).legend(move |from| key(from, color, width));
    Ok(())
}

fn key((x, y): (i32, i32), color: RGBColor, width: u32) -> PathElement<(i32, i32)> {
    PathElement::new(vec![(x, y), (x + 18, y)], color.stroke_width(width))
}

fn title(report: &Report) -> String {
    let plan = &report.plan;
    let rate = plan.rate.map_or_else(|| "as fast as it goes".to_owned(), |rate| format!("{rate} records/s"));
    format!(
        "{rate}, {} bytes each, {} producers, {} consumers, {} partitions",
        plan.record_bytes, plan.producers, plan.consumers, report.partitions
    )
}

/// Decades that hold all values.
fn span(values: impl Iterator<Item = f64>) -> std::ops::Range<f64> {
    let (low, high) = values
        .filter(|value| *value > 0.0)
        .fold((f64::MAX, 0.0f64), |(low, high), value| (low.min(value), high.max(value)));
    if high == 0.0 {
        return 0.1..10.0;
    }
    let (bottom, top) = (10f64.powf(low.log10().floor()), 10f64.powf(high.log10().ceil()));
    bottom..top.max(bottom * 10.0)
}

/// How far the axis of time reaches, in seconds.
fn duration(report: &Report) -> f64 {
    report.timeline.last().map_or(1.0, |point| point.second.max(0.001))
}

/// `2.0` as `99`, `3.0` as `99.9`.
fn percentile(nines: f64) -> String {
    let percent = format!("{:.6}", 100.0 - 100.0 * 10f64.powf(-nines));
    percent.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// A number without zeros that say nothing.
fn plain(value: f64) -> String {
    if value >= 100.0 {
        return crate::human::count(value.round() as i64);
    }
    let digits = format!("{value:.4}");
    digits.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::meter::Meter;
    use super::super::plan::Plan;
    use super::super::report::End;
    use super::*;

    #[test]
    fn nothing_at_all_can_be_drawn() {
        let plan = Plan {
            producers: 1,
            consumers: 1,
            record_bytes: 100,
            rate: None,
            seconds: Some(1),
            records: None,
        };
        let report = Meter::new(1, 1)
            .with_all(|found| Report::new("t", 1, &plan, End::Interrupted, Duration::ZERO, &found));
        let svg = draw(&report).unwrap();
        assert!(svg.contains("lag (records)") && svg.trim_end().ends_with("</svg>"));
    }

    #[test]
    fn axes_hold_all_values_and_read_well() {
        assert_eq!(span([0.3, 40.0].into_iter()), 0.1..100.0);
        assert_eq!(span([].into_iter()), 0.1..10.0);
        assert_eq!(span([10.0].into_iter()), 10.0..100.0);
        assert_eq!([0.0, 1.0, 2.0, 3.0, 5.0].map(percentile), ["0", "90", "99", "99.9", "99.999"]);
        assert_eq!([0.0, 0.01, 2.5, 1500.0].map(plain), ["0", "0.01", "2.5", "1,500"]);
    }
}
