// Icons, drawn with the colour of their text. What they mean is said by the
// control that shows them.
const shapes = {
  play: "M7 4.5v15l12-7.5z",
  pause: "M6.5 5h4v14h-4zM13.5 5h4v14h-4z",
  sound: "M4 9.5v5h3.5l5 4.5V5l-5 4.5zM15.5 8.6l1-1a6.2 6.2 0 0 1 0 8.8l-1-1a4.8 4.8 0 0 0 0-6.8z",
  silent: "M4 9.5v5h3.5l5 4.5V5l-5 4.5zM15 9.9l1-1 2 2 2-2 1 1-2 2.1 2 2-1 1-2-2-2 2-1-1 2-2z",
  fullscreen: "M4.5 4.5h6v2h-4v4h-2zM13.5 4.5h6v6h-2v-4h-4zM4.5 13.5h2v4h4v2h-6zM17.5 13.5h2v6h-6v-2h4z",
  help: "M9 9.2C9 7.3 10.3 6 12.1 6s3.1 1.2 3.1 2.9c0 2.3-2.2 2.6-2.2 4.6h-1.8c0-2.9 2.1-3 2.1-4.5 0-.8-.5-1.3-1.3-1.3-.8 0-1.3.6-1.3 1.5zM11.1 15.5h2v2.2h-2z",
} as const;

export function Icon({ name }: { name: keyof typeof shapes }) {
  return (
    <svg viewBox="0 0 24 24" width="24" height="24" fill="currentColor" aria-hidden="true" focusable="false">
      <path d={shapes[name]} />
    </svg>
  );
}
