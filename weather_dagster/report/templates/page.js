"use strict";
(() => {
  const report = JSON.parse(document.getElementById("report-data").textContent);
  const places = new Map(report.places.map((place) => [place.id, place]));
  const narrow = matchMedia("(max-width: 40rem)");
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const selector = document.getElementById("place");
  const NOTHING = "\u2013";
  const MINUS = "\u2212";
  const MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

  // Adding 0 turns -0 into 0, so that nothing reads "-0.0".
  const format = (value, digits = 1) =>
    value == null ? NOTHING : (Number(value.toFixed(digits)) + 0).toFixed(digits).replace("-", MINUS);
  const ink = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
  const plural = (count, word) => `${count} ${word}${count === 1 ? "" : "s"}`;
  const values = (columns, name) => (columns[name] || []).filter((value) => value != null);

  function extremes(columns, name) {
    let low = -1;
    let high = -1;
    (columns[name] || []).forEach((value, i, all) => {
      if (value == null) return;
      if (low < 0 || value < all[low]) low = i;
      if (high < 0 || value > all[high]) high = i;
    });
    return { low, high };
  }

  // "2026-11-25 07:00" -> "25 Nov 07:00", with spaces that do not break.
  function when(time, withYear = false) {
    const [date, clock] = time.split(" ");
    const [year, month, day] = date.split("-");
    return [Number(day), MONTHS[month - 1], ...(withYear ? [year] : []), ...(clock ? [clock] : [])].join("\u00a0");
  }

  const between = (times) => `${when(times[0], true)} to ${when(times[times.length - 1], true)}`;
  const span = (place) => `${between(place.hourly.time)}, ${place.zone}`;

  function missing(columns, name) {
    const count = values(columns, "time").length - values(columns, name).length;
    return count ? ` ${plural(count, "hour")} without a value.` : "";
  }

  const any = (columns, name) => values(columns, name).some((value) => value > 0);

  // A value between two gaps makes no line: it gets a dot, or it would not be seen at all.
  function line(columns, name, label, color, extra = {}) {
    const y = columns[name] || [];
    const alone = y.map((value, i) => value != null && y[i - 1] == null && y[i + 1] == null);
    return {
      type: "scatter", name: label, x: columns.time, y, connectgaps: false, hovertemplate: "%{y:.1f}",
      mode: alone.includes(true) ? "lines+markers" : "lines",
      line: { color: ink(color), width: 1.6, ...extra },
      marker: { color: ink(color), opacity: 1, line: { width: 0 }, size: alone.map((flag) => (flag ? 4 : 0)) },
    };
  }

  const axisTitle = (text) => ({ text, standoff: 6, font: { size: 12 } });

  function yAxis(name, extra = {}) {
    const [lower, upper] = report.limits[name];
    return {
      gridcolor: ink("line"), zerolinecolor: ink("muted"), fixedrange: true, automargin: true,
      minallowed: lower, maxallowed: upper, rangemode: lower === 0 ? "tozero" : "normal", ...extra,
    };
  }

  function layout(extra) {
    return {
      height: 340,
      margin: { l: 44, r: 12, t: 12, b: 58 },
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
      font: { color: ink("ink"), family: getComputedStyle(document.body).fontFamily, size: 12 },
      hoverlabel: { bgcolor: ink("panel"), bordercolor: ink("line"), font: { color: ink("ink") } },
      hovermode: "x unified", dragmode: narrow.matches ? false : "zoom",
      legend: {
        orientation: "h", x: 0, y: 1.03, yanchor: "bottom",
        ...(narrow.matches ? { entrywidthmode: "fraction", entrywidth: 0.47, font: { size: 11 } } : {}),
      },
      ...extra,
      xaxis: {
        type: "date", gridcolor: ink("line"), linecolor: ink("line"), hoverformat: "%a %d %b %Y %H:%M",
        tickformatstops: [
          { dtickrange: [null, 86399999], value: "%H:%M\n%d %b" },
          { dtickrange: [86400000, "M1"], value: "%d %b\n%Y" },
          { dtickrange: ["M1", null], value: "%b\n%Y" },
        ],
        nticks: narrow.matches ? 5 : 9, fixedrange: narrow.matches, ...extra.xaxis,
      },
    };
  }

  const PATTERNS = { complete: "", part: ".", missing: "/" };

  function stackedBars(place, x, columns, states, hover) {
    const kinds = place.tellsSnow
      ? [["rain_mm", "Rain", "blue", ""], ["snow_mm", "Snow", "purple", "x"]]
      : [["rain_mm", "Precipitation", "blue", ""]];
    return kinds.filter(([name]) => name === "rain_mm" || any(columns, name)).map(([name, label, color, shape]) => ({
      type: "bar", name: label, x, y: columns[name], hovertemplate: hover,
      marker: {
        color: ink(color), line: { width: 0 },
        pattern: {
          shape: states ? states.map((state) => PATTERNS[state] || shape) : shape,
          fillmode: "overlay", fgcolor: ink("panel"), solidity: 0.4, size: 6,
        },
      },
    }));
  }

  // What a day's hours with a value say: "complete", "missing" some that the period covers, or covered in "part"
  // alone, at the start of the period or when the day is not over yet.
  const stateOf = (present, covered, whole) => (present < covered ? "missing" : covered < whole ? "part" : "complete");
  const statesOf = (days, counts) => days.date.map((_, i) => stateOf(days[counts][i], days.hours_in_period[i], days.hours_in_day[i]));

  function sayStates(states, what) {
    const count = (state) => states.filter((one) => one === state).length;
    return (count("missing") ? ` ${plural(count("missing"), "day")} with ${what} missing, hatched.` : "")
      + (count("part") ? ` ${plural(count("part"), "day")} covered in part (begun late or not over yet), dotted.` : "");
  }

  // Totals are made from unrounded values where the page is made: a sum of what is drawn would stray.
  function sayTotal(place, totals) {
    const sum = `${format(totals.precipitation_mm)} mm`;
    if (!place.tellsSnow) return `${sum}; rain and snow not told apart`;
    return totals.snow_mm > 0 ? `${sum} (rain ${format(totals.rain_mm)}, snow ${format(totals.snow_mm)} as water)` : `${sum}, no snow`;
  }

  // Each chart: the values without which there is nothing to draw, what it draws, and what it says.
  const CHARTS = {
    temperature: {
      needs: (place) => values(place.hourly, "temperature_c"),
      absent: "hourly temperature",
      draw: ({ hourly, zone }) => [
        [
          line(hourly, "temperature_c", "Hourly", "grey", { width: 1 }),
          line(hourly, "mean_3h_c", "3 h mean", "blue", { dash: "dot" }),
          line(hourly, "mean_24h_c", "24 h mean", "orange", { width: 2.4 }),
          line(hourly, "mean_7d_c", "7 day mean", "purple", { width: 2.4, dash: "dash" }),
        ].filter((trace) => trace.y.length),
        { xaxis: hourAxis(hourly, zone), yaxis: yAxis("temperature_c") },
      ],
      say: (place) => {
        const { temperature_c: t, time } = place.hourly;
        const { low, high } = extremes(place.hourly, "temperature_c");
        return `${span(place)}. Lowest ${format(t[low])} °C (${when(time[low])}), highest ${format(t[high])} °C (${when(time[high])}).`
          + missing(place.hourly, "temperature_c")
          + (place.hourly.mean_7d_c ? "" : " Too few hours yet for a 7 day mean.");
      },
    },
    precipitation: {
      needs: (place) => [...values(place.hourly, "rain_mm"), ...values(place.hourly, "snow_mm")],
      absent: "precipitation",
      draw: (place) => [
        stackedBars(place, place.hourly.time, place.hourly, null, "%{y:.2f} mm"),
        {
          barmode: "stack", bargap: 0, xaxis: hourAxis(place.hourly, place.zone),
          yaxis: yAxis("precipitation_mm", dryAxis(place.hourly)),
        },
      ],
      say: (place) => `${span(place)}. In all ${sayTotal(place, place.hourlyTotals)}; `
        + `${plural(place.hourlyTotals.wet_hours, "wet hour")}.${missing(place.hourly, "rain_mm")}`,
    },
    wind: {
      needs: (place) => [...values(place.hourly, "wind_speed_ms"), ...values(place.hourly, "wind_gust_ms")],
      absent: "wind measurement",
      draw: ({ hourly, zone }) => {
        const speed = line(hourly, "wind_speed_ms", "Wind speed", "blue", { width: 2 });
        const directions = hourly.wind_direction_deg || [];
        speed.customdata = (hourly.wind_compass || []).map((sector, i) =>
          directions[i] == null ? "" : ` from ${sector || ""} (${directions[i]}°)`);
        speed.hovertemplate = "%{y:.1f}%{customdata}";
        const step = Math.ceil(hourly.time.length / (narrow.matches ? 14 : 28));
        const shown = directions.map((_, i) => i).filter((i) => i % step === 0 && directions[i] != null);
        const arrows = {
          type: "scatter", mode: "markers", name: "Blows towards", yaxis: "y2", hoverinfo: "skip",
          x: shown.map((i) => hourly.time[i]), y: shown.map(() => 0.5),
          marker: { symbol: "arrow", size: 11, color: ink("green"), angle: shown.map((i) => (directions[i] + 180) % 360) },
        };
        const gusts = line(hourly, "wind_gust_ms", "Gust", "orange", { width: 1, dash: "dot" });
        return [
          [gusts, speed, arrows],
          {
            xaxis: hourAxis(hourly, zone), yaxis: yAxis("wind_gust_ms", { domain: [0, 0.86] }),
            yaxis2: { domain: [0.9, 1], range: [0, 1], visible: false, fixedrange: true },
          },
        ];
      },
      say: (place) => {
        const { wind_speed_ms: speed, wind_gust_ms: gust, wind_compass: sector, time } = place.hourly;
        const strongest = extremes(place.hourly, "wind_speed_ms").high;
        const top = extremes(place.hourly, "wind_gust_ms").high;
        const from = sector && sector[strongest] ? ` from ${sector[strongest]}` : "";
        return `${span(place)}.`
          + (strongest < 0 ? "" : ` Strongest wind ${format(speed[strongest])} m/s${from} (${when(time[strongest])})`)
          + (top < 0 ? "." : `, top gust ${format(gust[top])} m/s (${when(time[top])}).`) + missing(place.hourly, "wind_speed_ms");
      },
    },
    "air-quality": {
      needs: (place) => POLLUTANTS.flatMap(([name]) => values(place.hourly, name)),
      absent: "air quality",
      draw: ({ hourly, zone }) => [
        POLLUTANTS.filter(([name]) => hourly[name]).map(([name, label, color, dash]) =>
          line(hourly, name, label, color, { dash })),
        { xaxis: hourAxis(hourly, zone), yaxis: yAxis("ozone_ug_m3") },
      ],
      say: (place) => `${span(place)}. Highest: ` + POLLUTANTS.filter(([name]) => place.hourly[name])
        .map(([name, label]) => `${label} ${format(place.hourly[name][extremes(place.hourly, name).high])}`)
        .join(", ") + ` µg/m³.${missing(place.hourly, POLLUTANTS.find(([name]) => place.hourly[name])[0])}`,
    },
    "daily-temperature": {
      needs: (place) => values(place.daily, "temperature_mean_c"),
      absent: "daily temperature",
      draw: ({ daily }) => {
        const { date, temperature_min_c: low, temperature_max_c: high, temperature_mean_c: mean } = daily;
        const states = statesOf(daily, "temperature_hours");
        const bars = {
          type: "bar", name: "Low to high", x: date, base: low,
          y: date.map((_, i) => (low[i] == null ? null : high[i] - low[i])),
          customdata: date.map((_, i) => [format(low[i]), format(high[i]), daily.temperature_hours[i], daily.hours_in_day[i]]),
          hovertemplate: "%{customdata[0]} to %{customdata[1]} (%{customdata[2]} of %{customdata[3]} hours)",
          marker: { color: ink("full"), line: { color: ink("blue"), width: date.length > 62 ? 0 : 1 }, pattern: {
            shape: states.map((state) => PATTERNS[state]), fillmode: "overlay", fgcolor: ink("blue"), solidity: 0.3, size: 6 } },
        };
        const means = {
          type: "scatter", mode: date.length > 62 ? "lines" : "lines+markers", name: "Mean", x: date, y: mean,
          connectgaps: false, hovertemplate: "%{y:.1f}",
          line: { color: ink("orange"), width: 2 }, marker: { symbol: "diamond", size: 7, color: ink("orange") },
        };
        return [[bars, means], { bargap: date.length > 62 ? 0 : 0.25, xaxis: DAY_AXIS, yaxis: yAxis("temperature_c") }];
      },
      say: (place) => {
        const { date, temperature_min_c: min, temperature_max_c: max } = place.daily;
        const coldest = extremes(place.daily, "temperature_min_c").low;
        const warmest = extremes(place.daily, "temperature_max_c").high;
        return `${plural(date.length, "local day")}, ${between(date)}. Coldest ${format(min[coldest])} °C `
          + `(${when(date[coldest])}), warmest ${format(max[warmest])} °C (${when(date[warmest])}).`
          + sayStates(statesOf(place.daily, "temperature_hours"), "temperatures");
      },
    },
    "daily-precipitation": {
      needs: (place) => [...values(place.daily, "rain_mm"), ...values(place.daily, "snow_mm")],
      absent: "daily precipitation",
      draw: (place) => {
        const { daily } = place;
        return [
          stackedBars(place, daily.date, daily, statesOf(daily, "precipitation_hours_present"), "%{y:.1f} mm"),
          { barmode: "stack", bargap: daily.date.length > 62 ? 0 : 0.25, xaxis: DAY_AXIS, yaxis: yAxis("precipitation_mm", dryAxis(daily)) },
        ];
      },
      say: (place) => {
        const { date, precipitation_mm: mm } = place.daily;
        const wettest = extremes(place.daily, "precipitation_mm").high;
        return `${plural(date.length, "local day")}, ${between(date)}. In all ${sayTotal(place, place.dailyTotals)}.`
          + (mm && mm[wettest] > 0 ? ` The most on ${when(date[wettest])}: ${format(mm[wettest])} mm.` : "")
          + sayStates(statesOf(place.daily, "precipitation_hours_present"), "precipitation");
      },
    },
  };
  const DAY_AXIS = { hoverformat: "%a %d %b %Y", title: axisTitle("local day") };
  const hourAxis = ({ time }, zone) => ({
    range: [time[0], time[time.length - 1]], title: axisTitle(`local time, ${zone}`),
  });
  const POLLUTANTS = [
    ["pm2_5_ug_m3", "PM2.5", "orange", "solid"],
    ["pm10_ug_m3", "PM10", "purple", "dash"],
    ["ozone_ug_m3", "Ozone", "blue", "solid"],
    ["nitrogen_dioxide_ug_m3", "NO₂", "green", "dot"],
  ];
  const CONFIG = {
    displaylogo: false, responsive: true, doubleClick: "reset",
    modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d", "zoomIn2d", "zoomOut2d", "pan2d"],
  };

  // A dry spell keeps an axis with room for a shower; else the axis would span a meaningless -1 to 1.
  function dryAxis(columns) {
    return any(columns, "rain_mm") || any(columns, "snow_mm") ? {} : { range: [0, 1] };
  }

  function drawPlace(place) {
    document.getElementById("zone").textContent = `time zone ${place.zone}`;
    for (const [id, chart] of Object.entries(CHARTS)) {
      const target = document.getElementById(id);
      const summary = document.getElementById(`${id}-summary`);
      target.hidden = chart.needs(place).length === 0;
      if (target.hidden) {
        Plotly.purge(target);
        summary.textContent = `There is no ${chart.absent} for ${place.name} in this warehouse.`;
        continue;
      }
      const [traces, extra] = chart.draw(place);
      Plotly.react(target, traces, layout(extra), { ...CONFIG, displayModeBar: narrow.matches ? false : "hover" });
      summary.textContent = chart.say(place);
    }
    fillDailyTable(place);
  }

  function fillDailyTable(place) {
    const days = place.daily;
    document.getElementById("daily-caption").textContent = `Local days of ${place.name}`;
    const body = document.querySelector("#daily tbody");
    const rows = (days.date || []).map((date, i) => {
      const cell = (name, digits) => format(days[name] && days[name][i], digits);
      const short = days.precipitation_hours_present[i] < days.hours_in_day[i];
      const part = days.hours_in_period[i] < days.hours_in_day[i] ? `, part of ${days.hours_in_day[i]}` : "";
      const rain = cell("precipitation_mm");
      const row = document.createElement("tr");
      const head = document.createElement("th");
      head.scope = "row";
      head.textContent = date;
      row.append(head);
      for (const text of [
        `${days.hours_present[i]} of ${days.hours_in_period[i]}${part}`,
        cell("temperature_mean_c"), cell("temperature_min_c"), cell("temperature_max_c"),
        short && rain !== NOTHING ? `≥ ${rain}` : rain,
        cell("wind_speed_mean_ms"), cell("wind_gust_max_ms"),
        cell("wind_direction_mean_deg", 0) + (days.wind_direction_mean_deg?.[i] == null ? "" : "°"),
        cell("humidity_mean_pct", 0), cell("pressure_mean_hpa", 0), cell("heating_degree_days"), cell("cooling_degree_days"),
      ]) row.insertCell().textContent = text;
      return row;
    });
    if (!rows.length) {
      const row = document.createElement("tr");
      const only = row.insertCell();
      only.colSpan = 13;
      only.className = "text";
      only.textContent = `There is no day of ${place.name} in gold yet.`;
      rows.push(row);
    }
    body.replaceChildren(...rows.reverse());
  }

  // Beyond the percentages of days with hours missing.
  const SHADES = { part: 125, complete: 200 };

  function drawCompleteness() {
    const target = document.getElementById("completeness");
    if (!target) return;
    const rows = report.places.filter((place) => place.daily.date);
    const dates = [...new Set(rows.flatMap((place) => place.daily.date))].sort();
    const column = new Map(dates.map((date, i) => [date, i]));
    const share = [];
    const hover = [];
    const marks = [];
    rows.forEach((place, y) => {
      share.push(new Array(dates.length).fill(null));
      hover.push(new Array(dates.length).fill(""));
      place.daily.date.forEach((date, i) => {
        const [present, covered, whole] = [place.daily.hours_present[i], place.daily.hours_in_period[i], place.daily.hours_in_day[i]];
        const state = stateOf(present, covered, whole);
        share[y][column.get(date)] = SHADES[state] ?? (100 * present) / covered;
        hover[y][column.get(date)] = `${present} of ${covered} hours (${format((100 * present) / covered, 0)} %)`
          + (covered < whole ? `, of a day of ${whole}` : "");
        if (state === "missing" && dates.length <= 62) {
          marks.push({ x: date, y, text: String(covered - present), showarrow: false, font: { size: 11, color: ink("ink") } });
        }
      });
    });
    const trace = {
      type: "heatmap", x: dates, y: rows.map((_, y) => y), z: share, zmin: 0, zmax: 200, text: hover, showscale: false,
      colorscale: [
        [0, ink("gap")], [0.5, ink("part")], [0.5, ink("open")], [0.8, ink("open")], [0.8, ink("full")], [1, ink("full")],
      ],
      xgap: dates.length > 62 ? 0 : 2, ygap: 2,
      hovertemplate: "%{x|%a %d %b %Y}: %{text}<extra></extra>", hoverongaps: false,
    };
    const base = layout({
      annotations: marks, hovermode: "closest", xaxis: { ...DAY_AXIS, gridcolor: "rgba(0,0,0,0)" },
      yaxis: {
        tickvals: rows.map((_, y) => y), ticktext: rows.map((place) => place.name), autorange: "reversed",
        automargin: true, fixedrange: true, showgrid: false, zeroline: false, ticks: "",
      },
    });
    base.height = 90 + 28 * rows.length;
    Plotly.react(target, [trace], base, { ...CONFIG, displayModeBar: false });
  }

  // Ages go on after the page was made; a reading of a live provider is marked when it gets old.
  function age(minutes) {
    if (minutes < 60) return `${minutes} min`;
    if (minutes < 48 * 60) return `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
    const days = Math.floor(minutes / 1440);
    return days < 730 ? `${days} days` : `${Math.floor(days / 365)} years`;
  }

  function tellAges() {
    for (const mark of document.querySelectorAll("time[data-age]")) {
      const minutes = Math.max(0, (Date.now() - Date.parse(mark.dateTime)) / 60000);
      const stale = minutes > Number(mark.dataset.stale ?? Infinity);
      mark.textContent = age(Math.floor(minutes)) + (stale ? ", old" : "");
      mark.closest("div").classList.toggle("stale", stale);
    }
  }

  function draw() {
    drawPlace(places.get(selector.value));
    drawCompleteness();
  }

  selector.addEventListener("change", () => drawPlace(places.get(selector.value)));
  for (const button of document.querySelectorAll("button[data-place]")) {
    button.addEventListener("click", () => {
      selector.value = button.dataset.place;
      drawPlace(places.get(selector.value));
      document.getElementById("charts").scrollIntoView();
    });
  }
  dark.addEventListener("change", draw);
  narrow.addEventListener("change", draw);
  draw();
  tellAges();
  for (const note of document.querySelectorAll(".static")) note.remove();
  setInterval(tellAges, 60000);
})();
