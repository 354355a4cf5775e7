// What a picky user checks, point by point, in a real Chromium against a running
// castlog. In one process, so that its pages and encoders are shared.
//
// Figures that depend on the speed of the machine are printed, not judged.
import "./ui/lists.mjs";
import "./ui/watch.mjs";
import "./ui/studio.mjs";
import "./ui/log.mjs";
import "./ui/access.mjs";
