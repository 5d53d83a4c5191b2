# SPDX-License-Identifier: Apache-2.0
"""The dashboard in Chromium with much to show: 1,000 jobs; a job of 5,000 points with 400 layers by
21 columns of ranks; and the updates of an hour, made faster."""

import json
import sqlite3
import time
import urllib.request

import chromium
import common
import service

JOBS, POINTS, LAYERS, TASKS = 1000, 5000, 400, 20
SCREEN, TALL = 900, 6000  # pixels: with the latter all of a job is in view
PAINT_MS_MAX, TASK_MS_MAX = 300, 100
UPDATES = 2400          # of an hour, one in 1.5 seconds
HASTE = 30              # so much faster than the clock
HEAP_GROWTH_MAX = 1.10
RANKS = ".heat[data-drawn] canvas[aria-label^=Ranks]"
FOREVER = {"ranks": {"allocator": "differentiable", "steps": 100000},
           "refine": {"optimizer": "adam", "steps": 100000}}

# Notes long tasks, and when an element of interest was painted: a frame after it came.
WATCH = """
window.seen = {tasks: [], paints: {}, fetches: 0};
new PerformanceObserver((list) => {
  for (const {duration} of list.getEntries()) window.seen.tasks.push(duration);
}).observe({type: "longtask", buffered: true});
const places = SELECTORS;
const look = () => {
  for (const place of places)
    if (!(place in window.seen.paints) && document.querySelector(place) !== null) {
      window.seen.paints[place] = null;
      requestAnimationFrame(() => setTimeout(() => {
        window.seen.paints[place] = performance.now();
      }));
    }
};
new MutationObserver(look).observe(document, {childList: true, subtree: true,
                                              attributeFilter: ["data-drawn"]});
"""
GO = """([box, drawn]) => new Promise((resolve) => {
  const from = performance.now();
  document.querySelector(box).scrollIntoView({block: "center"});
  const look = () => document.querySelector(drawn) === null ? requestAnimationFrame(look)
    : requestAnimationFrame(() => setTimeout(() => resolve(performance.now() - from)));
  look();
})"""
HURRY = """
const wait = window.setTimeout;
window.setTimeout = (run, milliseconds, ...rest) => wait(run, milliseconds / HASTE, ...rest);
const ask = window.fetch;
window.fetches = 0;
window.fetch = (...all) => { window.fetches += 1; return ask(...all); };
"""


def call(url, document=None):
    body = None if document is None else json.dumps(document).encode()
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


def submit(daemon, name, **fields):
    tasks = {task: f"tasks/{task}" for task in ("hiragana", "latin")}
    return call(f"{daemon.url}/v1/jobs",
                common.specification("base", tasks, 1.3, name=name, **fields))["id"]


def wait_for(daemon, job, *states):
    while call(f"{daemon.url}/v1/jobs/{job}")["state"] not in states:
        time.sleep(0.1)


# ---- much to show ----

def enlarge_events(state, job):
    """As many points as a long merge of a large model leaves."""
    database = sqlite3.connect(state / "didid.db")
    (last,) = database.execute("SELECT max(number) FROM events WHERE job_id = ?", [job]).fetchone()
    for step in range(1, POINTS + 1):
        database.execute(
            "INSERT INTO events SELECT job_id, ?, at_ms, attempt, 'point', ?, ?, ?, ?, ?, 1.3, ?,"
            " ?, ?, 0, NULL FROM events WHERE job_id = ? AND number = 1",
            [last + step, "pursue" if step <= POINTS // 2 else "refine", step,
             1 / (1 + step % 2500), 0.5 / (1 + step % 2500), 1.3, step, POINTS, step / 10, job])
    database.execute("UPDATE jobs SET event_count = event_count + ? WHERE id = ?", [POINTS, job])
    database.commit()
    database.close()


def enlarge_manifest(state, job):
    """The ranks of a model of many layers with many tasks."""
    path = next(state.glob(f"**/{job}/artifacts/manifest.json"))
    manifest = json.loads(path.read_text())
    tasks = [f"task{number:02}" for number in range(TASKS)]
    manifest["ranks"] = {"tasks": tasks, "layers": [
        {"tensor": f"model.layers.{number // 7}.mlp.projection{number % 7}.weight", "rows": 4096,
         "columns": 4096, "rank_limit": 2047, "shared": 100 + number % 300,
         "experts": [(number * 7 + t * 13) % 200 for t in range(TASKS)],
         "dense": [(number + t) % 17 == 0 for t in range(TASKS)],
         "errors": [0.01 + t / 1000 for t in range(TASKS)], "energies": [1.0] * TASKS}
        for number in range(LAYERS)]}
    path.write_text(json.dumps(manifest))


def prepare(arguments, scratch):
    """A daemon with all that; returns it and the large job."""
    state = scratch / "state"
    state.mkdir()
    didid = arguments.build / "daemon/didid"
    with service.Daemon(didid, state, common.FAMILY) as daemon:
        job = submit(daemon, "large")
        wait_for(daemon, job, "succeeded")
    enlarge_events(state, job)
    enlarge_manifest(state, job)
    daemon = service.Daemon(didid, state, common.FAMILY, "--disk-free-min", "1000T")
    daemon.start()
    for number in range(JOBS):
        submit(daemon, f"job {number:04}")
    return daemon, job


# ---- looking ----

def open_page(browser, *scripts, height=SCREEN):
    context = browser.new_context(viewport={"width": 1280, "height": height})
    for script in scripts:
        context.add_init_script(script)
    return context.new_page()


def longest_task(page, what):
    page.wait_for_timeout(1500)
    longest = max(page.evaluate("seen.tasks"), default=0)
    return common.verdict(f"{what}: longest task", f"{longest:.0f} ms", f"{TASK_MS_MAX} ms",
                          longest <= TASK_MS_MAX)


def look(browser, url, what, places, height=SCREEN):
    """Opens a view; milliseconds from the data to each place's paint, and the longest task."""
    page = open_page(browser, WATCH.replace("SELECTORS", json.dumps(list(places))), height=height)
    page.goto(url)
    page.wait_for_function("count => Object.values(seen.paints).filter(Boolean).length === count",
                           arg=len(places), timeout=60000)
    seen = page.evaluate("seen")
    arrived = page.evaluate("""() => performance.getEntriesByType("resource")
        .map(({name, responseEnd}) => [name, responseEnd])""")
    holds = True
    for place, (words, data) in places.items():
        ended = max(end for name, end in arrived if data in name and end <= seen["paints"][place])
        paint = seen["paints"][place] - ended
        holds &= common.verdict(f"{what}: {words}, paint after its data", f"{paint:.0f} ms",
                                f"{PAINT_MS_MAX} ms", paint <= PAINT_MS_MAX)
    holds &= longest_task(page, what)
    page.context.close()
    return holds


def walk(browser, url, what, places):
    """Opens a view, and goes to what is drawn when it is seen; milliseconds until it is painted,
    and the longest task. `places`: selector of a box -> (words, selector of what is drawn)."""
    page = open_page(browser, WATCH.replace("SELECTORS", "[]"))
    page.goto(url)
    holds = True
    for box, (words, drawn) in places.items():
        page.wait_for_selector(box)
        page.wait_for_timeout(500)
        paint = page.evaluate(GO, [box, drawn])
        holds &= common.verdict(f"{what}: {words}, paint after scrolling", f"{paint:.0f} ms",
                                f"{PAINT_MS_MAX} ms", paint <= PAINT_MS_MAX)
    holds &= longest_task(page, f"{what}, scrolled through")
    page.context.close()
    return holds


def heap(page, session):
    """Bytes and nodes that are held, garbage aside."""
    for _ in range(3):
        session.send("HeapProfiler.collectGarbage")
        page.wait_for_timeout(50)
    rows = session.send("Performance.getMetrics")["metrics"]
    metrics = {row["name"]: row["value"] for row in rows}
    return metrics["JSHeapUsedSize"], metrics["Nodes"], metrics["JSEventListeners"]


def endure(browser, url, what, updates):
    """So many requests for what changes; memory after a quarter of them and at the end."""
    page = open_page(browser, HURRY.replace("HASTE", str(HASTE)))
    page.goto(url)
    session = page.context.new_cdp_session(page)
    session.send("HeapProfiler.enable")
    session.send("Performance.enable")
    page.wait_for_function("count => fetches > count", arg=updates // 4, timeout=600000)
    before = heap(page, session)
    page.wait_for_function("count => fetches > count", arg=updates, timeout=600000)
    after = heap(page, session)
    page.context.close()
    growth = after[0] / before[0]
    print(f"{what}: heap {before[0] / 1e6:.1f} MB, then {after[0] / 1e6:.1f} MB; "
          f"nodes {before[1]}, then {after[1]}; listeners {before[2]}, then {after[2]}")
    return common.verdict(f"{what}: heap after {updates} updates to that after {updates // 4}",
                          f"{growth:.3f}", HEAP_GROWTH_MAX, growth <= HEAP_GROWTH_MAX)


def measure(arguments, scratch):
    daemon, job = prepare(arguments, scratch)
    with chromium.playwright(arguments.build) as driver:
        browser = chromium.launch(driver)
        holds = look(browser, f"{daemon.url}/ui/#/jobs", f"{JOBS} jobs",
                     {"tbody tr": ("the first page", "/v1/jobs?")})
        large, page = f"{POINTS} points, {LAYERS} layers by {TASKS + 1}", f"#/jobs/{job}"
        holds &= look(browser, f"{daemon.url}/ui/{page}", f"{large}, all in view",
                      {".curve canvas": ("curves", "/events?"),
                       RANKS: ("ranks", "/ranks"),
                       "svg.frontier": ("the frontier", "/frontier")}, TALL)
        holds &= walk(browser, f"{daemon.url}/ui/{page}", large,
                      {"canvas[aria-label^=Ranks]": ("ranks", RANKS),
                       ".curve:not([hidden])": ("curves", ".curve canvas")})
        daemon.stop()
        (scratch / "more").mkdir()
        with service.Daemon(arguments.build / "daemon/didid", scratch / "more",
                            common.FAMILY) as busy:
            running = [submit(busy, f"job {number}", **FOREVER) for number in range(3)]
            wait_for(busy, running[-1], "running")
            holds &= endure(browser, f"{busy.url}/ui/#/jobs", "an hour of the list", UPDATES)
            holds &= endure(browser, f"{busy.url}/ui/#/jobs/{running[0]}", "an hour of a job",
                            UPDATES // 2)
            for one in running:
                urllib.request.urlopen(urllib.request.Request(
                    f"{busy.url}/v1/jobs/{one}/cancel", method="POST"), timeout=60).close()
        browser.close()
    return holds
