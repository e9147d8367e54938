// The page around the viewer: photos in by dropping, choosing or webcam; answers out as pictures, tables and files.

import { Viewer } from "/viewer.js";

const $ = (id) => document.getElementById(id);
const LARGEST_BYTES = 25_000_000, LIVE_PX = 640;
const FILES = { "hands.glb": "GLB", "hands.obj": "OBJ", "hands.npz": "NPZ", "hands.json": "JSON", "overlay.png": "Overlay" };
let viewer = null, stream = null, spinning = null;

try {
  viewer = new Viewer($("view"));
} catch (error) {
  say(error.message, true);
}

function say(text, bad = false) {
  $("status").textContent = text;
  $("status").classList.toggle("error", bad);
}

async function ask(photo, live) {
  const answer = await fetch(live ? "/photo?live" : "/photo", { method: "POST", body: photo, headers: { "Content-Type": "application/octet-stream" } });
  const told = await answer.json();
  if (!answer.ok) throw new Error(told.error);
  return told;
}

async function take(photo) {
  stopWebcam();
  if (photo.size > LARGEST_BYTES) { say(`This file has ${Math.round(photo.size / 1e6)} MB; photos may have at most ${LARGEST_BYTES / 1e6}. Scale it down first.`, true); return; }
  if (photo.size === 0) { say("This file is empty; copy the photo again.", true); return; }
  $("busy").hidden = false;
  say("Looking for hands …");
  try {
    const told = await ask(photo, false);
    const picture = new Image();
    picture.src = told.photo;
    await picture.decode();
    viewer?.look(0, 0);
    viewer?.set(told, picture);
    $("drop").hidden = true;
    describe(told);
    if (told.people.length) $("view").focus({ preventScroll: true });
  } catch (error) {
    say(error instanceof TypeError ? "The program does not answer; is it still running?" : capital(error.message), true);
  } finally {
    $("busy").hidden = true;
  }
}

const capital = (text) => text.charAt(0).toUpperCase() + text.slice(1) + (/[.!?]$/.test(text) ? "" : ".");

function cell(kind, text, mark) {
  const node = document.createElement(kind);
  if (mark) { const dot = document.createElement("span"); dot.className = `dot ${mark}`; node.append(dot); }
  node.append(text);
  if (kind === "th") node.scope = "row";
  return node;
}

function describe(told) {
  const hands = told.people.flatMap((p, n) => p.hands.map((h) => ({ ...h, person: n + 1 })));
  const pairs = told.people.filter((p) => p.hands.length === 2);
  let text = hands.length ? `${hands.length} hand${hands.length > 1 ? "s" : ""} found.` : "No hands found. Is a hand in the picture, and large enough?";
  for (const p of pairs) {
    if (p.refined) text += ` They passed through one another by ${p.penetration_before_cm3.toFixed(2)} cm³, ${p.penetration_cm3.toFixed(2)} after refinement.`;
    else if (p.penetration_cm3 > 0) text += ` They pass through one another by ${p.penetration_cm3.toFixed(2)} cm³.`;
  }
  say(text);
  $("result").hidden = false;
  $("show-before").disabled = !pairs.some((p) => p.refined);
  if ($("show-before").disabled) { $("show-before").checked = false; toggles(); }
  $("hands").tBodies[0].replaceChildren(...hands.map((h) => {
    const row = document.createElement("tr");
    row.append(cell("th", String(h.person)), cell("td", h.side, h.side), cell("td", `${Math.round(100 * h.score)} %`));
    return row;
  }));
  $("hands").hidden = !hands.length;
  $("times").tBodies[0].replaceChildren(...Object.entries(told.seconds).map(([stage, seconds]) => {
    const row = document.createElement("tr");
    row.append(cell("th", stage), cell("td", seconds < 1 ? `${Math.round(1000 * seconds)} ms` : `${seconds.toFixed(2)} s`));
    return row;
  }));
  $("downloads").replaceChildren(...(told.id ? Object.entries(FILES).map(([file, name]) => {
    const link = document.createElement("a");
    link.href = `/result/${told.id}/${file}`;
    link.download = file;
    link.textContent = name;
    return link;
  }) : []));
  $("downloads-title").hidden = !told.id;
}

function toggles() {
  if (!viewer) return;
  for (const name of Object.keys(viewer.show)) viewer.show[name] = $(`show-${name}`).checked;
  $("scale").hidden = !viewer.show.heat;
  viewer.draw();
}

async function webcam() {
  try {
    stream = await navigator.mediaDevices.getUserMedia({ video: { width: { ideal: 1280 } } });
  } catch (error) {
    say(`The webcam cannot be used (${error.message}).`, true);
    return;
  }
  const video = $("video"), canvas = document.createElement("canvas");
  video.srcObject = stream;
  await video.play();
  $("drop").hidden = true;
  $("stop").hidden = false;
  $("show-photo").checked = true;
  toggles();
  viewer?.look(0, 0);
  const scale = Math.min(1, LIVE_PX / Math.max(video.videoWidth, video.videoHeight));
  [canvas.width, canvas.height] = [Math.round(scale * video.videoWidth), Math.round(scale * video.videoHeight)];
  while (stream) {
    canvas.getContext("2d").drawImage(video, 0, 0, canvas.width, canvas.height);
    const photo = await new Promise((done) => canvas.toBlob(done, "image/jpeg", 0.85));
    try {
      const told = await ask(photo, true);
      if (!stream) break;
      viewer?.set(told, canvas);
      describe(told);
    } catch (error) {
      say(capital(error.message), true);
      break;
    }
  }
  stopWebcam();
}

function stopWebcam() {
  stream?.getTracks().forEach((track) => track.stop());
  stream = null;
  $("stop").hidden = true;
}

function again() {
  stopWebcam();
  $("drop").hidden = false;
  $("result").hidden = true;
  $("file").value = "";
  say("No photo yet.");
  $("example").focus();
}

$("file").addEventListener("change", () => { if ($("file").files[0]) take($("file").files[0]); });
$("example").addEventListener("click", async () => take(await (await fetch("/example.jpg")).blob()));
$("webcam").addEventListener("click", webcam);
$("stop").addEventListener("click", stopWebcam);
$("again").addEventListener("click", again);
for (const box of document.querySelectorAll("fieldset input")) box.addEventListener("change", toggles);
for (const button of document.querySelectorAll("[data-yaw]")) button.addEventListener("click", () => viewer?.look(Number(button.dataset.yaw), Number(button.dataset.pitch)));
$("spin").addEventListener("click", () => {
  const on = spinning === null;
  $("spin").setAttribute("aria-pressed", String(on));
  if (on) spinning = setInterval(() => viewer?.look(viewer.yaw + 1.5, viewer.pitch, viewer.zoom), 33);
  else { clearInterval(spinning); spinning = null; }
});
$("shot").addEventListener("click", () => $("view").toBlob((picture) => {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(picture);
  link.download = "hands.png";
  link.click();
  URL.revokeObjectURL(link.href);
}));
for (const name of ["dragenter", "dragover"]) document.addEventListener(name, (e) => { e.preventDefault(); $("drop").classList.add("over"); });
for (const name of ["dragleave", "drop"]) document.addEventListener(name, (e) => { e.preventDefault(); $("drop").classList.remove("over"); });
document.addEventListener("drop", (e) => { if (e.dataTransfer.files[0]) take(e.dataTransfer.files[0]); });
