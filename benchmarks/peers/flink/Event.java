/**
 * One row of the input: an event, or (model {@link #TRAITS}) a user's trait row. The source fills the same object
 * again and again: with object reuse, nothing after it may keep one.
 */
public final class Event {
  /** The model of a row that makes a user known. */
  public static final int TRAITS = -1;

  public String user;
  /** When it happened, epoch ms; the rows come in this order. */
  public long clockMs;
  /** Index of the event model. */
  public int model;
  /** Code of the channel in {@link Program#channels}; -1: a channel that no filter names. */
  public int channel;
  public double amount;
  /** The user's row in the trait table; in trait rows only. */
  public int row;
}
