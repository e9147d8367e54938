// Hands in 3D in front of their photo, with WebGL alone. Points are in the photo's camera frame: x right, y down, z forward, metres.

const MESH = {
  vertex: `attribute vec3 position, normal, colour; uniform mat3 turn; uniform vec3 pivot, place; uniform vec4 lens; uniform vec2 range;
    varying vec3 n, c;
    void main() {
      vec3 p = turn * (position - pivot) + place;
      n = turn * normal; c = colour;
      gl_Position = vec4((lens.xy * p.xy + lens.zw * p.z) * vec2(1.0, -1.0), range.x * p.z + range.y, p.z);
    }`,
  fragment: `precision mediump float; varying vec3 n, c; uniform float opacity;
    void main() {
      vec3 light = normalize(vec3(-0.45, -0.7, -0.55)), m = normalize(n);
      float diffuse = clamp((dot(m, light) + 0.4) / 1.4, 0.0, 1.0);
      float shine = pow(clamp(dot(m, normalize(light + vec3(0.0, 0.0, -1.0))), 0.0, 1.0), 30.0);
      gl_FragColor = vec4(c * (0.3 + 0.8 * diffuse) + 0.23 * shine, 1.0) * opacity;
    }`,
};
const FLAT = {
  vertex: `attribute vec3 position, colour; attribute vec2 uv; uniform mat3 turn; uniform vec3 pivot, place; uniform vec4 lens; uniform vec2 range;
    uniform float nearer; varying vec2 t; varying vec3 c;
    void main() {
      vec3 p = turn * (position - pivot) + place; t = uv; c = colour;
      gl_Position = vec4((lens.xy * p.xy + lens.zw * p.z) * vec2(1.0, -1.0), range.x * p.z + range.y - nearer * p.z, p.z);
      gl_PointSize = 9.0;
    }`,
  fragment: `precision mediump float; varying vec2 t; varying vec3 c; uniform sampler2D photo; uniform float textured;
    void main() {
      if (textured < 0.0 && length(gl_PointCoord - 0.5) > 0.5) discard;
      gl_FragColor = textured > 0.5 ? texture2D(photo, t) : vec4(c, 1.0);
    }`,
};
const BONES = [];
for (let finger = 0; finger < 5; finger++) {
  for (let k = 0; k < 4; k++) BONES.push(k ? 4 * finger + k : 0, 4 * finger + k + 1);
}
export const COLOURS = { left: [0, 114, 178], right: [230, 159, 0] };

export function bytes(text) {
  const raw = atob(text), out = new Uint8Array(raw.length);
  for (let i = 0; i < raw.length; i++) out[i] = raw.charCodeAt(i);
  return out;
}
const floats = (text) => new Float32Array(bytes(text).buffer);

function normals(vertices, faces) {
  const n = new Float32Array(vertices.length);
  for (let f = 0; f < faces.length; f += 3) {
    const [a, b, c] = [3 * faces[f], 3 * faces[f + 1], 3 * faces[f + 2]];
    const u = [0, 1, 2].map((k) => vertices[b + k] - vertices[a + k]), v = [0, 1, 2].map((k) => vertices[c + k] - vertices[a + k]);
    const w = [u[1] * v[2] - u[2] * v[1], u[2] * v[0] - u[0] * v[2], u[0] * v[1] - u[1] * v[0]];
    for (const i of [a, b, c]) for (let k = 0; k < 3; k++) n[i + k] += w[k];
  }
  return n; // the shader brings them to length
}

export class Viewer {
  constructor(canvas) {
    this.canvas = canvas;
    this.gl = canvas.getContext("webgl", { antialias: true, preserveDrawingBuffer: true });
    if (!this.gl) throw new Error("This browser shows no WebGL, so the hands cannot be drawn; the downloads work all the same.");
    this.mesh = this.program(MESH);
    this.flat = this.program(FLAT);
    this.show = { mesh: true, joints: false, photo: true, frustum: false, heat: false, before: false };
    this.scene = null;
    this.look(0, 0);
    this.listen();
    new ResizeObserver(() => this.draw()).observe(canvas);
  }

  program({ vertex, fragment }) {
    const gl = this.gl, program = gl.createProgram();
    for (const [kind, source] of [[gl.VERTEX_SHADER, vertex], [gl.FRAGMENT_SHADER, fragment]]) {
      const shader = gl.createShader(kind);
      gl.shaderSource(shader, source);
      gl.compileShader(shader);
      if (!gl.getShaderParameter(shader, gl.COMPILE_STATUS)) throw new Error(gl.getShaderInfoLog(shader));
      gl.attachShader(program, shader);
    }
    gl.linkProgram(program);
    return program;
  }

  /** Shows an answer of the server; `picture` (image or video) is what lies behind the hands. The point of view stays. */
  set(answer, picture) {
    const faces = answer.faces.map((f) => new Uint32Array(bytes(f).buffer)).map((f) => Uint16Array.from(f));
    const hands = answer.people.flatMap((p) => p.hands).map((h) => {
      const index = faces[h.side === "left" ? 0 : 1], states = {};
      for (const [state, end] of [["after", ""], ["before", "_before"]]) {
        if (!h["vertices" + end]) continue;
        const vertices = floats(h["vertices" + end]);
        states[state] = { vertices, normals: normals(vertices, index), heat: bytes(h["heat" + end]) };
      }
      return { index, states, keypoints: floats(h.keypoints), colour: COLOURS[h.side] };
    });
    const [fx, fy, cx, cy] = answer.camera ?? [answer.width, answer.width, answer.width / 2, answer.height / 2];
    const low = [Infinity, Infinity, Infinity], high = [-Infinity, -Infinity, -Infinity];
    for (const h of hands) h.states.after.vertices.forEach((x, i) => { low[i % 3] = Math.min(low[i % 3], x); high[i % 3] = Math.max(high[i % 3], x); });
    const middle = hands.length ? low.map((x, k) => (x + high[k]) / 2) : [0, 0, 1];
    const far = hands.length ? high[2] + 0.25 * (high[2] - low[2]) + 0.02 : 1.2;
    this.scene = { hands, fx, fy, cx, cy, width: answer.width, height: answer.height, middle, far };
    const gl = this.gl;
    this.texture ??= gl.createTexture();
    gl.bindTexture(gl.TEXTURE_2D, this.texture);
    gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGB, gl.RGB, gl.UNSIGNED_BYTE, picture);
    for (const [name, value] of [["WRAP_S", "CLAMP_TO_EDGE"], ["WRAP_T", "CLAMP_TO_EDGE"], ["MIN_FILTER", "LINEAR"]]) {
      gl.texParameteri(gl.TEXTURE_2D, gl["TEXTURE_" + name], gl[value]);
    }
    this.draw();
  }

  /** Yaw and pitch in degrees by which the hands are turned; 0, 0 is the photo's own view. */
  look(yaw, pitch, zoom = 1) {
    Object.assign(this, { yaw, pitch: Math.max(-89, Math.min(89, pitch)), zoom: Math.max(0.3, Math.min(4, zoom)) });
    this.draw();
  }

  listen() {
    const held = new Map();
    this.canvas.addEventListener("pointerdown", (e) => { this.canvas.setPointerCapture(e.pointerId); held.set(e.pointerId, [e.clientX, e.clientY]); });
    for (const end of ["pointerup", "pointercancel"]) this.canvas.addEventListener(end, (e) => held.delete(e.pointerId));
    this.canvas.addEventListener("pointermove", (e) => {
      const last = held.get(e.pointerId);
      if (!last) return;
      held.set(e.pointerId, [e.clientX, e.clientY]);
      if (held.size > 1) { this.look(this.yaw, this.pitch, this.zoom * Math.exp((last[1] - e.clientY) / 200)); return; }
      this.look(this.yaw + (last[0] - e.clientX) / 3, this.pitch + (e.clientY - last[1]) / 3, this.zoom);
    });
    this.canvas.addEventListener("wheel", (e) => { e.preventDefault(); this.look(this.yaw, this.pitch, this.zoom * Math.exp(-e.deltaY / 600)); }, { passive: false });
    const keys = { ArrowLeft: [10, 0, 1], ArrowRight: [-10, 0, 1], ArrowUp: [0, 10, 1], ArrowDown: [0, -10, 1], "+": [0, 0, 1.15], "=": [0, 0, 1.15], "-": [0, 0, 1 / 1.15] };
    this.canvas.addEventListener("keydown", (e) => {
      if (e.key === "0") this.look(0, 0);
      else if (keys[e.key]) this.look(this.yaw + keys[e.key][0], this.pitch + keys[e.key][1], this.zoom * keys[e.key][2]);
      else return;
      e.preventDefault();
    });
  }

  draw() {
    const gl = this.gl, canvas = this.canvas, ratio = Math.min(2, window.devicePixelRatio || 1);
    const [w, h] = [Math.max(1, Math.round(canvas.clientWidth * ratio)), Math.max(1, Math.round(canvas.clientHeight * ratio))];
    if (canvas.width !== w || canvas.height !== h) { canvas.width = w; canvas.height = h; }
    gl.viewport(0, 0, w, h);
    gl.clearColor(0.125, 0.14, 0.157, 1);
    gl.clear(gl.COLOR_BUFFER_BIT | gl.DEPTH_BUFFER_BIT);
    const s = this.scene;
    if (!s) return;
    gl.enable(gl.DEPTH_TEST);
    gl.depthFunc(gl.LEQUAL);
    const state = this.show.before ? "before" : "after";
    if (this.show.photo) this.drawPhoto(s);
    if (this.show.mesh) for (const hand of s.hands) this.drawMesh(hand, hand.states[state] ?? hand.states.after);
    if (this.show.joints) for (const hand of s.hands) this.drawJoints(hand);
    if (this.show.frustum) this.drawFrustum(s);
  }

  drawMesh(hand, state) {
    const gl = this.gl, program = this.view(this.mesh);
    const colours = this.show.heat ? Float32Array.from(state.heat, (x) => x / 255)
      : Float32Array.from({ length: state.vertices.length }, (_, i) => hand.colour[i % 3] / 255);
    this.attribute(program, "position", state.vertices, 3);
    this.attribute(program, "normal", state.normals, 3);
    this.attribute(program, "colour", colours, 3);
    gl.uniform1f(gl.getUniformLocation(program, "opacity"), 1);
    this.indices ??= gl.createBuffer();
    gl.bindBuffer(gl.ELEMENT_ARRAY_BUFFER, this.indices);
    gl.bufferData(gl.ELEMENT_ARRAY_BUFFER, hand.index, gl.DYNAMIC_DRAW);
    gl.drawElements(gl.TRIANGLES, hand.index.length, gl.UNSIGNED_SHORT, 0);
  }

  drawJoints(hand) {
    // Seen through the skin, and darker there: bones lie inside.
    const points = hand.keypoints, lines = Float32Array.from(BONES.flatMap((k) => [points[3 * k], points[3 * k + 1], points[3 * k + 2]]));
    this.drawFlat(this.gl.LINES, lines, hand.colour.map((x) => (this.show.mesh ? 0.5 : 1) * x / 255), 0.2);
    this.drawFlat(this.gl.POINTS, points, [1, 1, 1], 0.21);
  }

  drawFrustum(s) {
    const at = ([u, v], z) => [(u - s.cx) / s.fx * z, (v - s.cy) / s.fy * z, z];
    const corners = [[0, 0], [s.width, 0], [s.width, s.height], [0, s.height]], lines = [];
    for (let k = 0; k < 4; k++) {
      lines.push(0, 0, 0, ...at(corners[k], s.far));
      for (const z of [0.15 * s.far, s.far]) lines.push(...at(corners[k], z), ...at(corners[(k + 1) % 4], z));
    }
    this.drawFlat(this.gl.LINES, Float32Array.from(lines), [0.95, 0.95, 0.6], 0);
  }

  drawPhoto(s) {
    const at = (u, v) => [(u - s.cx) / s.fx * s.far, (v - s.cy) / s.fy * s.far, s.far];
    const [w, h] = [s.width, s.height];
    this.drawFlat(this.gl.TRIANGLE_STRIP, Float32Array.from([...at(0, 0), ...at(w, 0), ...at(0, h), ...at(w, h)]), [1, 1, 1], 0, Float32Array.from([0, 0, 1, 0, 0, 1, 1, 1]));
  }

  drawFlat(kind, points, colour, nearer, uv) {
    const gl = this.gl, program = this.view(this.flat), count = points.length / 3;
    this.attribute(program, "position", points, 3);
    this.attribute(program, "colour", Float32Array.from({ length: 3 * count }, (_, i) => colour[i % 3]), 3);
    this.attribute(program, "uv", uv ?? new Float32Array(2 * count), 2);
    gl.uniform1f(gl.getUniformLocation(program, "textured"), uv ? 1 : kind === gl.POINTS ? -1 : 0);
    gl.uniform1f(gl.getUniformLocation(program, "nearer"), nearer);
    gl.drawArrays(kind, 0, count);
  }

  /** The photo's pinhole, letterboxed into the canvas, with the hands turned about their middle. */
  view(program) {
    const gl = this.gl, s = this.scene, [w, h] = [this.canvas.width, this.canvas.height];
    const fit = Math.min(w / s.width, h / s.height), [near, far] = [0.02, 20];
    const [y, p] = [this.yaw, this.pitch].map((x) => x * Math.PI / 180), [cy, sy, cp, sp] = [Math.cos(y), Math.sin(y), Math.cos(p), Math.sin(p)];
    // Rows of Rx(pitch) Ry(yaw); WebGL wants columns. Away from the photo's view the hands come to the middle.
    const rows = [[cy, 0, sy], [sp * sy, cp, -sp * cy], [-cp * sy, sp, cp * cy]];
    const away = Math.min(1, Math.hypot(this.yaw, this.pitch) / 45), m = s.middle;
    const place = [m[0] * (1 - away), m[1] * (1 - away), m[2] / this.zoom];
    const set = (name, method, ...value) => gl[method](gl.getUniformLocation(program, name), ...value);
    gl.useProgram(program);
    set("turn", "uniformMatrix3fv", false, [0, 1, 2].flatMap((k) => rows.map((row) => row[k])));
    set("pivot", "uniform3fv", m);
    set("place", "uniform3fv", place);
    set("lens", "uniform4f", 2 * s.fx * fit / w, 2 * s.fy * fit / h, 2 * (s.cx - s.width / 2) * fit / w * (1 - away), 2 * (s.cy - s.height / 2) * fit / h * (1 - away));
    set("range", "uniform2f", (far + near) / (far - near), -2 * far * near / (far - near));
    return program;
  }

  attribute(program, name, data, size) {
    const gl = this.gl, where = gl.getAttribLocation(program, name);
    if (where < 0) return;
    this.buffers ??= {};
    gl.bindBuffer(gl.ARRAY_BUFFER, this.buffers[name] ??= gl.createBuffer());
    gl.bufferData(gl.ARRAY_BUFFER, data, gl.DYNAMIC_DRAW);
    gl.enableVertexAttribArray(where);
    gl.vertexAttribPointer(where, size, gl.FLOAT, false, 0, 0);
  }
}
