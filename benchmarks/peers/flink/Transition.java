/** An entry or exit. One object, filled again and again. */
public final class Transition {
  public int audience;
  /** The user's row in the trait table: that is how the comparison names users. */
  public int user;
  /** When membership changed, epoch ms: the event's clock, or the very ms at which a window lapsed. */
  public long atMs;
  public boolean entered;
}
