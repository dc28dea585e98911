// @ts-check
// The level of a microphone, 0 to 1, about 15 times a second, without sending it anywhere.

const INTERVAL_MS = 66;
const FLOOR_DB = -55;

/** Calls `heard(level)` until the returned function is called. @param {MediaStreamTrack} track @param {(level: number) => void} heard */
export function meter(track, heard) {
  const context = new AudioContext();
  const wake = () => void context.resume(); // before the first tap of a page the browser keeps it asleep
  addEventListener("pointerdown", wake, { once: true });
  const source = context.createMediaStreamSource(new MediaStream([track]));
  const analyser = context.createAnalyser();
  analyser.fftSize = 512;
  source.connect(analyser);
  const samples = new Float32Array(analyser.fftSize);
  const timer = setInterval(() => {
    analyser.getFloatTimeDomainData(samples);
    const power = samples.reduce((sum, sample) => sum + sample * sample, 0) / samples.length;
    const db = 10 * Math.log10(power + 1e-10);
    heard(Math.max(0, Math.min(1, 1 - db / FLOOR_DB)));
  }, INTERVAL_MS);
  return () => {
    clearInterval(timer);
    removeEventListener("pointerdown", wake);
    source.disconnect();
    void context.close();
  };
}
