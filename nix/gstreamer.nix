# GStreamer as castlog uses it, once for the package and the dev shell.
{ lib, gst_all_1 }:
let
  packages = with gst_all_1; [
    # The library that the pipeline links, and coreelements.
    gstreamer
    # app, videoconvertscale, audioconvert, videorate.
    gst-plugins-base
    # jpegenc, isomp4 (the tests' second player).
    gst-plugins-good
    # h264parse, codec strings, mpegtsmux, hlsdemux.
    gst-plugins-bad
    # x264enc.
    gst-plugins-ugly
    # avdec_h264, the AAC codecs.
    gst-libav
  ];
in
{
  inherit packages;
  pluginPath = lib.makeSearchPath "lib/gstreamer-1.0" (map lib.getLib packages);
}
