// usage: node play.mjs PLAYLIST_URL [SCREENSHOT.png]
//
// Plays a recording in Chromium with hls.js, from its first to its last picture, and prints one JSON line:
//   {duration_s, buffered: [[from, to]...], frames, dropped, ended, slow, errors: [...]}
// It begins when all is loaded, to the end: what is judged is the recording, and not whether this machine loads faster than it
// plays. One that is not in one piece may not be loaded to its end by that: then it does not play, and what was loaded is told.
// slow: how often the picture stood still with a second of media or more at hand: this machine decoded late, and hls.js
// calls that a stalled buffer, though nothing was missing in it. From then on it plays at half the speed, down to the true one. The
// picture has to go on by itself, or playback does not end; where hls.js helps it over a hole it reports an error of another kind.
// Exits 1 if playback does not reach the end or hls.js reports a fatal error. The page is served on loopback by this
// program, which passes the member's answers on, so that the browser's own rules about origins stay in force.
import http from 'node:http';
import { readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { launch } from './chromium.mjs';

const LIMIT_MS = 120_000;
const [playlist, screenshot] = process.argv.slice(2);
if (!playlist) {
  console.error('usage: node play.mjs PLAYLIST_URL [SCREENSHOT.png]');
  process.exit(2);
}
const source = new URL(playlist);
const hlsScript = await readFile(createRequire(import.meta.url).resolve('hls.js/dist/hls.min.js'));

const page = (src) => `<!doctype html><meta charset="utf-8"><title>play</title>
<body style="margin:0;background:#222"><video id="v" muted playsinline width="640"></video>
<script src="/hls.js"></script><script>
const v = document.getElementById('v'); const errors = []; window.errors = errors; window.slow = 0;
const hls = new Hls({maxBufferLength: 3600, maxMaxBufferLength: 3600, maxBufferSize: 1e9});
hls.on(Hls.Events.ERROR, (_, e) => {
  if (e.details === Hls.ErrorDetails.BUFFER_STALLED_ERROR && !e.fatal && e.buffer >= 1) {
    window.slow += 1;
    v.playbackRate = Math.max(1, v.playbackRate / 2);
  } else errors.push({type: e.type, details: e.details, fatal: e.fatal, reason: e.reason ?? e.error?.message});
});
hls.loadSource(${JSON.stringify(src)}); hls.attachMedia(v); v.playbackRate = 4;
hls.on(Hls.Events.BUFFERED_TO_END, () => v.play());
</script>`;

/** Serves the page, the player and, under any other path, what the member answers. */
function serve() {
  return http.createServer((req, res) => {
    const local = { '/': ['text/html', page(source.pathname + source.search)], '/hls.js': ['text/javascript', hlsScript] }[req.url];
    if (local) return res.writeHead(200, { 'content-type': local[0] }).end(local[1]);
    const headers = req.headers.range ? { range: req.headers.range } : {};
    http.get({ host: source.hostname, port: source.port, path: req.url, headers }, (upstream) => {
      res.writeHead(upstream.statusCode, upstream.headers);
      upstream.pipe(res);
    }).on('error', (e) => res.writeHead(502).end(String(e)));
  });
}

const server = serve().listen(0, '127.0.0.1');
await new Promise((resolve) => server.once('listening', resolve));
const { browser, close } = await launch();
let failed = true;
try {
  const tab = await browser.newPage();
  await tab.goto(`http://127.0.0.1:${server.address().port}/`);
  await tab.waitForFunction(() => window.v.ended || window.errors.some((e) => e.fatal), null, { timeout: LIMIT_MS }).catch(() => {});
  const seen = await tab.evaluate(() => {
    const v = window.v;
    const q = v.getVideoPlaybackQuality();
    return {
      duration_s: v.duration, at_s: v.currentTime, ended: v.ended, frames: q.totalVideoFrames, dropped: q.droppedVideoFrames,
      buffered: Array.from({ length: v.buffered.length }, (_, i) => [v.buffered.start(i), v.buffered.end(i)]),
      slow: window.slow, errors: window.errors,
    };
  });
  if (screenshot) await tab.screenshot({ path: screenshot });
  console.log(JSON.stringify(seen));
  failed = !seen.ended || seen.errors.some((e) => e.fatal);
} finally {
  await close();
  server.close();
}
process.exit(failed ? 1 : 0);
