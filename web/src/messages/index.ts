// Every text of the UI, in every language of the UI. `{name}` is filled by `t`.
import * as common from "./common";
import * as log from "./log";
import * as studio from "./studio";
import * as watch from "./watch";

const en = { ...common.en, ...watch.en, ...studio.en, ...log.en };
export type Key = keyof typeof en;
export type Messages = Record<Key, string>;
const ko: Messages = { ...common.ko, ...watch.ko, ...studio.ko, ...log.ko };

export const languages = { en: { name: "English", messages: en as Messages }, ko: { name: "한국어", messages: ko } };
export type Language = keyof typeof languages;
