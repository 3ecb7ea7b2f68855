// usage: node watch.mjs PAGE_URL MILLISECONDS
//
// Opens the page of a live view in Chromium, watches for so long from the first picture on, and prints one JSON line:
//   {state, from_s, to_s, behind_s, frames, connections, errors: [...]}
// A machine that is busy may show a moment late: then it watches until the picture is of now again, for a while.
// Exits 1 if no picture comes.
import { launch } from './chromium.mjs';

const LIMIT_MS = 60_000;
// Further behind the newest frame is not live: the page itself jumps from there.
const BEHIND_S = 1.5;
const LIVE_AGAIN_MS = 20_000;
const [page, duration] = process.argv.slice(2);
if (!duration) {
  console.error('usage: node watch.mjs PAGE_URL MILLISECONDS');
  process.exit(2);
}

const { browser, close } = await launch();
let failed = true;
try {
  const tab = await browser.newPage();
  const errors = [];
  tab.on('pageerror', (error) => errors.push(String(error)));
  tab.on('console', (line) => { if (line.type() === 'error') errors.push(line.text()); });
  await tab.goto(page);
  const look = () => tab.evaluate(() => {
    const v = document.getElementById('video');
    const ranges = v.buffered;
    const newest = ranges.length ? ranges.end(ranges.length - 1) : 0;
    return { ...window.live, at_s: v.currentTime, behind_s: newest - v.currentTime, frames: v.getVideoPlaybackQuality().totalVideoFrames };
  });
  const playing = () => document.getElementById('video').currentTime > 0 && document.getElementById('video').readyState > 2;
  const begun = await tab.waitForFunction(playing, null, { timeout: LIMIT_MS }).then(() => true, () => false);
  const first = await look();
  if (begun) await tab.waitForTimeout(Number(duration));
  const live = ({ from, most, behind }) => {
    const { buffered, currentTime } = document.getElementById('video');
    const newest = buffered.length ? buffered.end(buffered.length - 1) : 0;
    return window.live.state === 'live' && currentTime - from >= most && newest - currentTime < behind;
  };
  const watched = { from: first.at_s, most: Number(duration) / 1000, behind: BEHIND_S };
  if (begun) await tab.waitForFunction(live, watched, { timeout: LIVE_AGAIN_MS }).catch(() => {});
  const last = await look();
  const { state, connections, behind_s, frames } = last;
  console.log(JSON.stringify({ state, connections, behind_s, frames, from_s: first.at_s, to_s: last.at_s, errors }));
  failed = !begun;
} finally {
  await close();
}
process.exit(failed ? 1 : 0);
